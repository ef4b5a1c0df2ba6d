// d^T G d for many rows d of a matrix and a symmetric G, of which the upper triangle is read:
//     d^T G d = sum over j of d_j sum over i <= j of G'_ij d_i,   G' = G with doubled elements above the diagonal.
// G' is cut into blocks of `form_depth` rows and `form_columns` columns that fit the second-level cache; a block's
// products are fp32 chains of at most form_depth terms, everything beyond is summed in f64. n^2 flops a row (+ the
// corners of the diagonal blocks).
#pragma once

#include "host/cpu/tile_product.h"

#include <algorithm>

namespace ptq {

inline constexpr std::int64_t form_columns = 64, form_depth = 256, form_rows = 48;

// Rows [i0, i1) and columns [j0, j1) of G'. i1 <= j1: what lies below is zero.
struct FormBlock {
  std::int64_t i0, i1, j0, j1;

  std::size_t size() const { return static_cast<std::size_t>((i1 - i0) * form_columns); }
};

// to: block.size() floats, rows of form_columns. g [n, n].
inline void pack_form_block(const FormBlock& b, const float* g, std::int64_t n, float* to) {
  for (std::int64_t i = b.i0; i < b.i1; ++i) {
    float* row = to + (i - b.i0) * form_columns;
    for (std::int64_t j = b.j0; j < b.j1; ++j) row[j - b.j0] = i > j ? 0.0f : (i < j ? 2.0f : 1.0f) * g[i * n + j];
  }
}

// f(block) for all blocks of one panel of columns, from the top.
template <class F>
void for_form_blocks(std::int64_t panel, std::int64_t n, F&& f) {
  const std::int64_t j0 = panel * form_columns, j1 = std::min(n, j0 + form_columns);
  for (std::int64_t i0 = 0; i0 < j1; i0 += form_depth) f(FormBlock{i0, std::min(j1, i0 + form_depth), j0, j1});
}

// sum[r] += the block's share of d_r^T G d_r for m rows, ldd apart.
inline void add_form_block(const FormBlock& b, const float* packed, const float* d, std::int64_t ldd, std::int64_t m,
                           double* sum) {
  const std::int64_t width = b.j1 - b.j0;
  alignas(64) float product[form_rows * form_columns];
  for (std::int64_t r0 = 0; r0 < m; r0 += form_rows) {
    const std::int64_t rows = std::min(form_rows, m - r0);
    const TileOperands<float, float> t{product, form_columns, d + r0 * ldd + b.i0, ldd, packed, form_columns};
    tile_product<Left::rows, Into::assign>(t, rows, width, b.i1 - b.i0);
    for (std::int64_t r = 0; r < rows; ++r) {
      const float *x = d + (r0 + r) * ldd + b.j0, *y = product + r * form_columns;
      constexpr std::int64_t lanes = 8;
      double part[lanes] = {};
      std::int64_t j = 0;
      for (; j + lanes <= width; j += lanes) {
        for (std::int64_t l = 0; l < lanes; ++l) part[l] += double{x[j + l]} * y[j + l];
      }
      for (; j < width; ++j) part[0] += double{x[j]} * y[j];
      for (const double p : part) sum[r0 + r] += p;
    }
  }
}

}  // namespace ptq

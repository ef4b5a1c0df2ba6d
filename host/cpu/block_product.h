// The loop around PackedWeight::multiply: x [R, I] times a packed weight, one (64 rows x panel) block at a time, all
// blocks in parallel. What becomes of a block (bias and rounding, log-softmax statistics, int8 scales) is the
// caller's `use`.
#pragma once

#include "host/cpu/packed_weight.h"
#include "host/cpu/simd.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace ptq {

// Rows of a product's left operand; row r of the product is x[row(r)] (all rows in order when `rows` is empty).
struct RowSource {
  const Tensor& x;  // [R, I] of the weight's input type
  std::span<const std::int32_t> rows;

  std::int64_t count() const { return rows.empty() ? x.rows() : static_cast<std::int64_t>(rows.size()); }
  std::int64_t row(std::int64_t r) const { return rows.empty() ? r : rows[static_cast<std::size_t>(r)]; }
};

namespace detail {

// `tile` contiguous rows for the library: in place where possible, else gathered, converted and padded with zeros.
template <class From, class To>
const void* gather(const RowSource& source, std::int64_t first, std::int64_t count, std::int64_t tile) {
  const std::int64_t width = source.x.cols();
  const From* x = source.x.data<From>();
  const std::int64_t start = source.row(first);
  if (std::is_same_v<From, To> && count == tile && source.row(first + count - 1) == start + count - 1) {
    return x + start * width;  // rows are sorted, so equal distance means contiguous
  }
  To* rows = scratch<To>(1, static_cast<std::size_t>(tile * width));
  for (std::int64_t r = 0; r < count; ++r) {
    const From* from = x + source.row(first + r) * width;
    if constexpr (std::is_same_v<From, To>) {
      std::memcpy(rows + r * width, from, static_cast<std::size_t>(width) * sizeof(To));
    } else {
      simd::to_floats(from, rows + r * width, width);
    }
  }
  std::memset(static_cast<void*>(rows + count * width), 0,
              static_cast<std::size_t>((tile - count) * width) * sizeof(To));
  return rows;
}

inline const void* gather(const RowSource& source, const PackedWeight& w, std::int64_t first, std::int64_t count,
                          std::int64_t tile) {
  switch (source.x.dtype()) {
    case DType::i8:
      return gather<std::int8_t, std::int8_t>(source, first, count, tile);
    case DType::f16:
      return gather<f16, float>(source, first, count, tile);
    case DType::bf16:
      return w.operand() == DType::f32 ? gather<bf16, float>(source, first, count, tile)
                                       : gather<bf16, bf16>(source, first, count, tile);
    default:
      return gather<float, float>(source, first, count, tile);
  }
}

}  // namespace detail

// use(first, count, panel, p, c): rows [first, first + count) of the product against panel number p, c [64, width]
// of type Sum (float, or int32 for s8; then [8, width] if there are no more rows); c belongs to `use` and may be
// overwritten. `source.rows` must be ascending.
template <class Sum, class Use>
void for_each_block(const PackedWeight& w, const RowSource& source, int threads, Use&& use) {
  check(source.x.dtype() == w.input() && source.x.cols() == w.in_features(),
        "product of {} {} with a weight of {} columns", name_of(source.x.dtype()), to_string(source.x.shape()),
        w.in_features());
  const auto panels = static_cast<std::int64_t>(w.panels().size());
  const std::int64_t rows = w.format() == WeightFormat::s8 && source.count() <= few_row_tile ? few_row_tile : row_tile;
  const std::int64_t tiles = (source.count() + rows - 1) / rows;
  if (tiles == 0) return;
  const auto run = [&](std::int64_t tile, std::int64_t p, const void* weights) {
    const Panel& panel = w.panels()[static_cast<std::size_t>(p)];
    const std::int64_t first = tile * rows;
    const std::int64_t count = std::min(rows, source.count() - first);
    Sum* c = scratch<Sum>(2, static_cast<std::size_t>(rows * panel.width));
    w.multiply(panel, rows, detail::gather(source, w, first, count, rows), weights, c);
    use(first, count, panel, p, c);
  };
  if (!w.expanded()) {
    parallel_for(threads, tiles * panels, [&](std::int64_t task) {
      const std::int64_t p = task / tiles;
      run(task % tiles, p, w.panels()[static_cast<std::size_t>(p)].data.data());
    });
    return;
  }
  // A group of panels is expanded to at most 16 MiB (or one panel), then used.
  const std::size_t most = w.expanded_bytes(w.panels().front());
  const std::int64_t group =
      std::clamp<std::int64_t>(static_cast<std::int64_t>((std::size_t{16} << 20) / most), 1, panels);
  std::byte* weights = scratch<std::byte>(1, static_cast<std::size_t>(group) * most);  // shared by all threads
  for (std::int64_t p0 = 0; p0 < panels; p0 += group) {
    const std::int64_t here = std::min(group, panels - p0);
    constexpr std::int64_t pieces = 8;
    parallel_for(threads, here * pieces, [&](std::int64_t task) {
      const std::int64_t p = task / pieces;
      w.expand(w.panels()[static_cast<std::size_t>(p0 + p)], weights + static_cast<std::size_t>(p) * most,
               task % pieces, pieces);
    });
    parallel_for(threads, here * tiles, [&](std::int64_t task) {
      const std::int64_t p = task / tiles;
      run(task % tiles, p0 + p, weights + static_cast<std::size_t>(p) * most);
    });
  }
}

// Adds the bias, if there is one, to c [count][width] (rows ldc apart) and rounds it into y (rows ldy apart).
template <class T>
void finish(T* y, std::int64_t ldy, float* c, std::int64_t ldc, std::int64_t count, std::int64_t width,
            const float* bias) {
  for (std::int64_t r = 0; r < count; ++r) {
    float* row = c + r * ldc;
    if (bias != nullptr) {
      for (std::int64_t n = 0; n < width; ++n) row[n] += bias[n];
    }
    simd::from_floats(row, y + r * ldy, width);
  }
}

}  // namespace ptq

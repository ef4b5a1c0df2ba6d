// C <- beta C +- A B for small tiles, B [k][n] with contiguous rows, A stored either way. The register-tiled core of
// attention, Gram matrices, factorisation and the GPTQ sweep: C[i][j] = beta[j] C[i][j] +- sum_k A(i,k) B[k][j]. Cost
// 2 m n k flops; about 90 % of the FMA rate when A and B fit the first two cache levels.
//
// Elements are float, double, or bf16_pair (then k counts pairs and C is float). Every element of C is one chain of
// fused multiply-adds over k from zero, wherever it lies in the tile: results do not depend on the position of a row.
#pragma once

#include "host/cpu/simd.h"

#include <algorithm>
#include <cstdint>

namespace ptq {

enum class Left : std::uint8_t { rows, columns };                     // A(i,k) is a[i * lda + k], or a[k * lda + i]
enum class Into : std::uint8_t { assign, add, subtract, scale_add };  // C = P, C + P, C - P, beta C + P

// The operands: leading dimensions count elements. beta [n] only for scale_add.
template <class In, class Out>
struct TileOperands {
  Out* c;
  std::int64_t ldc;
  const In* a;
  std::int64_t lda;
  const In* b;
  std::int64_t ldb;
  const Out* beta = nullptr;

  template <Left left>
  In at(std::int64_t i, std::int64_t k) const {
    return left == Left::rows ? a[i * lda + k] : a[k * lda + i];
  }
  template <Left left>
  void skip_rows(std::int64_t i) {
    c += i * ldc;
    a += left == Left::rows ? i * lda : i;
  }
  void skip_columns(std::int64_t j) {
    c += j;
    b += j;
    if (beta != nullptr) beta += j;
  }
};

namespace detail {

inline constexpr int tile_rows = 6;

template <Into into, class V, class Out>
V merge(V p, const Out* c, const Out* beta) {
  const auto load = [](const Out* at) {
    if constexpr (sizeof(V) == sizeof(Out))
      return *at;
    else
      return simd::load(at);
  };
  if constexpr (into == Into::assign) return p;
  if constexpr (into == Into::add) return load(c) + p;
  if constexpr (into == Into::subtract) return load(c) - p;
  if constexpr (into == Into::scale_add) return simd::fma(load(beta), load(c), p);
}

template <Left left, Into into, int M, int V, class In, class Out>
void micro(const TileOperands<In, Out>& t, std::int64_t k) {
  constexpr int w = simd::width<Out>;
  simd::vec<Out> sum[M][V] = {};
  for (std::int64_t p = 0; p < k; ++p) {
    simd::vec<In> row[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) row[v] = simd::load(t.b + p * t.ldb + v * w);
#pragma GCC unroll 8
    for (int i = 0; i < M; ++i) {
      const simd::vec<In> x = simd::splat(t.template at<left>(i, p));
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sum[i][v] = simd::fma(x, row[v], sum[i][v]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < M; ++i) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      Out* at = t.c + i * t.ldc + v * w;
      simd::store(at, merge<into>(sum[i][v], at, t.beta + (into == Into::scale_add ? v * w : 0)));
    }
  }
}

template <Left left, Into into, int V, class In, class Out>
void strip(TileOperands<In, Out> t, std::int64_t m, std::int64_t k) {
  for (; m >= tile_rows; m -= tile_rows) {
    micro<left, into, tile_rows, V>(t, k);
    t.template skip_rows<left>(tile_rows);
  }
  switch (m) {
    case 5:
      return micro<left, into, 5, V>(t, k);
    case 4:
      return micro<left, into, 4, V>(t, k);
    case 3:
      return micro<left, into, 3, V>(t, k);
    case 2:
      return micro<left, into, 2, V>(t, k);
    case 1:
      return micro<left, into, 1, V>(t, k);
    default:
      return;
  }
}

// A column that does not fill a vector, in the same order of operations.
template <Left left, Into into, class In, class Out>
void column(const TileOperands<In, Out>& t, std::int64_t m, std::int64_t k) {
  for (std::int64_t i = 0; i < m; ++i) {
    Out sum = 0;
    for (std::int64_t p = 0; p < k; ++p) sum = simd::fma(t.template at<left>(i, p), t.b[p * t.ldb], sum);
    t.c[i * t.ldc] = merge<into>(sum, t.c + i * t.ldc, t.beta);
  }
}

}  // namespace detail

// C [m][n], sums over k.
template <Left left, Into into, class In, class Out>
void tile_product(TileOperands<In, Out> t, std::int64_t m, std::int64_t n, std::int64_t k) {
  constexpr int w = simd::width<Out>;
  for (; n >= simd::tile_vectors * w; n -= simd::tile_vectors * w) {
    detail::strip<left, into, simd::tile_vectors>(t, m, k);
    t.skip_columns(simd::tile_vectors * w);
  }
  for (; n >= w; n -= w) {
    detail::strip<left, into, 1>(t, m, k);
    t.skip_columns(w);
  }
  for (; n > 0; --n) {
    detail::column<left, into>(t, m, k);
    t.skip_columns(1);
  }
}

}  // namespace ptq

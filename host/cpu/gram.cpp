// H += X^T X, upper triangle. T I^2 flops.
#include "host/cpu/cpu_ops.h"
#include "host/cpu/parallel.h"
#include "host/cpu/tile_product.h"
#include "host/op_checks.h"

#include <cstring>

namespace ptq {

namespace {

constexpr std::int64_t tile = 64;           // columns of a tile of H
constexpr std::int64_t token_chunk = 1024;  // tokens packed at a time
constexpr std::int64_t token_block = 128;   // tokens summed before they are added to H: short fp32 chains

// Rows [0, count) of a panel of X, ldx apart, widened to fp32; or, two tokens at a time, as pairs.
template <class T>
void pack(const T* x, std::int64_t ldx, std::int64_t count, std::int64_t width, float* to) {
  for (std::int64_t t = 0; t < count; ++t) simd::to_floats(x + t * ldx, to + t * tile, width);
}
// Unused where the processor has no products of such pairs.
[[maybe_unused]] void pack(const bf16* x, std::int64_t ldx, std::int64_t count, std::int64_t width,
                           simd::bf16_pair* to) {
  for (std::int64_t t = 0; t < count; t += 2) {
    const bf16* next = t + 1 < count ? x + (t + 1) * ldx : nullptr;
    for (std::int64_t i = 0; i < width; ++i) to[t / 2 * tile + i] = {x[t * ldx + i], next ? next[i] : bf16{0}};
  }
}

// A chunk of tokens is packed in panels of 64 columns; the tiles of H are then independent, each adding the same
// products in the same order for any number of threads. In: element of a panel, covering `tokens_each` tokens.
template <class In, class T>
void accumulate(float* h, const T* x, std::int64_t tokens, std::int64_t n, int threads) {
  constexpr std::int64_t tokens_each = std::is_same_v<In, float> ? 1 : 2;
  const std::int64_t tiles = (n + tile - 1) / tile;
  const std::int64_t chunk = (std::min(tokens, token_chunk) + 1) / tokens_each;
  Buffer<In> packed(static_cast<std::size_t>(tiles * chunk * tile));
  const auto panel = [&](std::int64_t p) { return packed.data() + p * chunk * tile; };
  for (std::int64_t t0 = 0; t0 < tokens; t0 += token_chunk) {
    const std::int64_t count = std::min(token_chunk, tokens - t0), k = (count + tokens_each - 1) / tokens_each;
    parallel_for(threads, tiles, [&](std::int64_t p) {
      pack(x + t0 * n + p * tile, n, count, std::min(tile, n - p * tile), panel(p));
    });
    parallel_for(threads, tiles * tiles, [&](std::int64_t task) {
      const std::int64_t i = task / tiles, j = task % tiles;
      if (j < i) return;
      constexpr std::int64_t block = token_block / tokens_each;
      for (std::int64_t at = 0; at < k; at += block) {
        tile_product<Left::columns, Into::add>(
            TileOperands<In, float>{h + i * tile * n + j * tile, n, panel(i) + at * tile, tile, panel(j) + at * tile,
                                    tile},
            std::min(tile, n - i * tile), std::min(tile, n - j * tile), std::min(block, k - at));
      }
    });
  }
}

}  // namespace

void CpuOps::gram(const Tensor& h, const Tensor& x) {
  const std::int64_t n = x.cols(), tokens = x.rows();
  op_checks::gram(h, x);
  simd::dispatch(x.dtype(), [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    using In = std::conditional_t<std::is_same_v<T, bf16> && simd::has_pairs, simd::bf16_pair, float>;
    accumulate<In>(h.data<float>(), x.data<T>(), tokens, n, threads_);
  });
}

}  // namespace ptq

// Hessian accumulation: a symmetric rank-T update
//   formula   H[i,j] += sum_t X[t,i] X[t,j]   for i <= j (within tiles on the diagonal, below it too)
//   shapes    H (I, I) f32   X (T, I) bf16, f16 or f32
//   maps      block ↔ tile of 128 x 128 on or above the diagonal (gram_tile.cuh), alone: no atomics. Products of halves
//             are exact in fp32, so tensor cores lose nothing; their sums, which they may truncate, move to memory
//             every `promotion` tokens.
//   cost      T I^2 flops: compute-bound; reads X once per square of tiles, reads and writes half of H per promotion
//   twin      host/cpu/gram.cpp     test  tests/test_ops_products.cpp     chain  min(T, 4096) + T / 4096
#include "cuda/gram.h"

#include "cuda/gram_tile.cuh"
#include "cuda/types.h"

#include <type_traits>

namespace ptq::cuda {

namespace {

// Short chains cost traffic with H (I^2 4 bytes each), long ones accuracy: a chain of 4096 tokens is 256 mma.
constexpr int promotion = 4096;

template <class Tile, bool vector>
__global__ void __launch_bounds__(Tile::threads, 2)
    gram_kernel(float* __restrict__ h,                         // (I, I), upper triangle
                const typename Tile::Element* __restrict__ x,  // (T, I) bf16, f16 or f32
                int tokens,                                    // T
                std::int64_t n) {                              // I
  const TileCorner at = upper_tile(blockIdx.x, Tile::side);
  if (at.j < at.i || at.j >= n) return;
  Tile tile(at, n);
  const auto promote = [&] {
    const TileMemory<Tile, float, vector> memory(tile, h, n, n, at);
    memory.update(tile, [](Neighbours<float> old, float* sum, int) {
      const Neighbours<float> next{old.x + sum[0], old.y + sum[1]};
      sum[0] = sum[1] = 0.0f;
      return next;
    });
  };
  sum_outer_products<vector>(tile, x, tokens, n, at, promotion, promote);
}

}  // namespace

void gram(float* h, const void* x, DType x_type, std::int64_t tokens, std::int64_t n, Stream stream) {
  const auto t = static_cast<double>(tokens), i = static_cast<double>(n);
  visit_float(x_type, [&](auto type) {
    using T = decltype(type);
    using Tile = std::conditional_t<std::is_same_v<T, float>, FmaTile<float>, MmaTile<T>>;
    const bool vector = fits_vectors(n * static_cast<std::int64_t>(sizeof(T)), {x, h});
    launch("gram", vector ? gram_kernel<Tile, true> : gram_kernel<Tile, false>,
           {.grid = upper_tile_count(n, Tile::side),
            .block = Tile::threads,
            .smem = ring_bytes<Tile>,
            .stream = stream,
            .flops = t * i * (i + 1),
            .bytes = t * i * sizeof(T) + 4 * i * (i + 1)},
           h, static_cast<const T*>(x), static_cast<int>(tokens), n);
  });
}

}  // namespace ptq::cuda

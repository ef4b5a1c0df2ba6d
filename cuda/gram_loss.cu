// The squared error of a linear from its Gram matrix (AWQ's exact loss)
//   formula   tr(D G D^T) = <G, S> = 2 sum_j (sum_{i<j} G[i,j] S[i,j] + G[j,j] S[j,j] / 2),   S = D^T D
//   shapes    D (N, I) f32   G (I, I) f32, of which the upper triangle is read   one f64 per block
//   maps      block ↔ tile of S of 128 x 128 on or above the diagonal (gram_tile.cuh) x up to 1024 rows of D; its fp32
//             sums are never stored: 8 products with G at a time are added in f32, those in f64
//   cost      N I^2 flops: compute-bound; reads D once per square of tiles and half of G N / 1024 times
//   twin      host/cpu/awq.cpp     test  tests/test_ops_awq.cpp     chain  min(N, 1024) + 8; everything beyond is f64
#include "cuda/gram.h"
#include "cuda/gram_tile.cuh"

namespace ptq::cuda {

namespace {

using Tile = FmaTile<float>;

// Rows of D of a block: short chains, many blocks.
constexpr int row_run = 1024;

template <bool vector>
__global__ void __launch_bounds__(Tile::threads, 2)
    gram_loss_kernel(double* __restrict__ partial,  // (N / 1024, blocks of S)
                     const float* __restrict__ d,   // (N, I)
                     const float* __restrict__ g,   // (I, I), upper triangle
                     int rows,                      // N
                     std::int64_t n) {              // I
  const TileCorner at = upper_tile(blockIdx.x, Tile::side);
  double loss = 0.0;
  if (at.i <= at.j && at.j < n) {
    Tile tile(at, n);
    const int first_row = static_cast<int>(blockIdx.y) * row_run;
    sum_outer_products<vector>(tile, d + first_row * n, std::min(rows - first_row, int{row_run}), n, at);
    const TileMemory<Tile, const float, false> memory(tile, g, n, n, at);  // by elements, which spares registers
    // Columns right of the diagonal. Left of it there may be anything.
    const int first = at.j + tile.col() - at.i - tile.row();
    const auto half = [](int distance, float weight) {
      return distance < 0 ? 0.0f : distance == 0 ? 0.5f * weight : weight;
    };
#pragma unroll
    for (int r = 0; r < Tile::rows; ++r) {
      Neighbours<float> weight[Tile::pairs];
      float of_row = 0.0f;
#pragma unroll
      for (int p = 0; p < Tile::pairs; ++p) weight[p] = memory.load(r, p);
#pragma unroll
      for (int p = 0; p < Tile::pairs; ++p) {
        const int distance = first + Tile::col_step(p) - Tile::row_step(r);
        const float* sum = tile.sum(r, p);
        of_row = fmaf(half(distance, weight[p].x), sum[0], of_row);
        of_row = fmaf(half(distance + 1, weight[p].y), sum[1], of_row);
      }
      loss += double{of_row};
    }
    __syncthreads();  // the stages are no longer read: their memory serves the reduction
  }
  loss = block_sum(loss, dynamic_smem<double>());
  if (threadIdx.x == 0) partial[std::int64_t{blockIdx.y} * gridDim.x + blockIdx.x] = 2.0 * loss;
}

}  // namespace

std::int64_t gram_loss_partials(std::int64_t rows, std::int64_t n) {
  return tiles(rows, row_run) * upper_tile_count(n, Tile::side);
}

void gram_loss(double* partial, const float* d, const float* g, std::int64_t rows, std::int64_t n, Stream stream) {
  const auto r = static_cast<double>(rows), i = static_cast<double>(n);
  const bool vector = fits_vectors(n * static_cast<std::int64_t>(sizeof(float)), {d});
  launch("gram_loss", vector ? gram_loss_kernel<true> : gram_loss_kernel<false>,
         {.grid = {upper_tile_count(n, Tile::side), static_cast<unsigned>(tiles(rows, row_run))},
          .block = Tile::threads,
          .smem = ring_bytes<Tile>,
          .stream = stream,
          .flops = r * i * (i + 1),
          .bytes = 4 * (r * i + i * (i + 1) / 2)},
         partial, d, g, static_cast<int>(rows), n);
}

}  // namespace ptq::cuda

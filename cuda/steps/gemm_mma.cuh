// What the warps of steps 3 and 4 do with tiles of x and w in shared memory, however these came there: fragments by
// ldmatrix, products by mma, sums to y.
//
//   maps      block ↔ 128 x 128 outputs, 8 warps in 2 rows of 4; warp ↔ 64 x 32, that is 4 x 4 mma of 16 x 8
#pragma once

#include "cuda/block.cuh"
#include "cuda/chunk.cuh"
#include "cuda/steps/gemm_step.cuh"

namespace ptq::cuda::gemm_steps {

constexpr int tile = 128;  // rows and columns of y of a block: 64 sums a thread leave room for two blocks an SM
constexpr int warp_rows = 64, warp_columns = 32;
constexpr int warps_across = tile / warp_columns;
constexpr int threads = tile / warp_rows * warps_across * warp_lanes;
constexpr int mma_rows = warp_rows / 16, mma_columns = warp_columns / 8;  // mma of a warp

constexpr int tile_depth = 32;              // of k at a time: two mma; divides ldw
constexpr int row_chunks = tile_depth / 8;  // of 16 bytes, each a row of an 8 x 8 matrix of ldmatrix
// A row of a tile is 5 chunks long, the fifth of no use: the 8 rows of a matrix begin 20 banks apart (modulo 32: 0, 20,
// 8, 28, 16, 4, 24, 12), so that together they cover each of the 32 banks once.
constexpr int padded_chunks = row_chunks + 1;
constexpr int tile_chunks = tile * padded_chunks;  // of x or of w

using Sums = float[mma_rows][mma_columns][4];  // of a lane: its part of each mma's c

__device__ inline int warp_row() { return warp_index() / warps_across * warp_rows; }
__device__ inline int warp_column() { return warp_index() % warps_across * warp_columns; }

// sums += x w^T over the 32 of k in the tiles x, w [128, 32].
template <class T>
__device__ void multiply(Sums& sums, const uint4* x, const uint4* w) {
  const int lane = lane_index();
  // The row and chunk whose address this lane gives (ptx.cuh). x: 16 rows with the first, then the last 8 of k; w: 8
  // rows with the first and the last 8 of k, then the next 8 rows.
  const uint4* const x_from = x + (warp_row() + lane % 16) * padded_chunks + lane / 16;
  const uint4* const w_from = w + (warp_column() + lane / 16 * 8 + lane % 8) * padded_chunks + lane / 8 % 2;
#pragma unroll
  for (int k = 0; k < row_chunks; k += 2) {
    std::uint32_t a[mma_rows][4], b[mma_columns / 2][4];  // b[j]: both registers of mma 2j, then of mma 2j + 1
#pragma unroll
    for (int i = 0; i < mma_rows; ++i) ldmatrix_x4(a[i], x_from + i * 16 * padded_chunks + k);
#pragma unroll
    for (int j = 0; j < mma_columns / 2; ++j) ldmatrix_x4(b[j], w_from + j * 16 * padded_chunks + k);
#pragma unroll
    for (int i = 0; i < mma_rows; ++i) {
#pragma unroll
      for (int j = 0; j < mma_columns; ++j)
        mma_16816<T>(sums[i][j], a[i], {b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]});
    }
  }
}

// The sums of the block's tile, which begins at row m and column n of y.
template <class T>
__device__ void store(const GemmStep<T>& g, const Sums& sums, std::int64_t m, std::int64_t n) {
#pragma unroll
  for (int i = 0; i < mma_rows; ++i) {
#pragma unroll
    for (int j = 0; j < mma_columns; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        g.store(m + warp_row() + i * 16 + mma_c_row(lane_index(), e),
                n + warp_column() + j * 8 + mma_c_col(lane_index(), e), sums[i][j][e]);
      }
    }
  }
}

}  // namespace ptq::cuda::gemm_steps

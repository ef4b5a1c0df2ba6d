// A tile of an int8 product: its sizes, its stages in shared memory, and how warps multiply one (gemm_s8.cu).
//
// A stage holds `slabs` slabs of 64 columns of x and w, each [rows, 64] bytes; the warps of a block share the tile of
// y, or, where it is small, the slabs of a stage, whose exact sums are added in the end.
//
// The rows of w that meet in one mma are not neighbours: columns 2q, 2q + 1 of four fragments of 8 are dealt the eight
// neighbours 8q .. 8q + 7, so that a lane holds 8 neighbouring columns of y and stores them 16 bytes at a time.
#pragma once

#include "cuda/block.cuh"
#include "cuda/ptx.cuh"

namespace ptq::cuda::s8 {

constexpr int slab = 64;   // columns of a stage that one warp multiplies: two steps of mma_16832
constexpr int piece = 16;  // columns in a copy, and in a row of ldmatrix
constexpr int pieces = slab / piece;
constexpr int lane_columns = 8;    // of y, neighbours
constexpr int group_columns = 32;  // of y: those of four lanes, four fragments

template <int warps_m_, int warps_n_, int slabs_, int warp_rows_, int warp_columns_>
struct TileSizes {
  static constexpr int warps_m = warps_m_, warps_n = warps_n_, slabs = slabs_;
  static constexpr int warp_rows = warp_rows_, warp_columns = warp_columns_;
  static constexpr int rows = warps_m * warp_rows, columns = warps_n * warp_columns, depth = slabs * slab;
  static constexpr int fragments_m = warp_rows / 16, fragments_n = warp_columns / 8;
  static constexpr int groups = warp_columns / group_columns;
  static constexpr int threads = warps_m * warps_n * slabs * warp_lanes;
  static constexpr int stages = 4;  // three on their way hide the memory's latency
  static constexpr int x_bytes = rows * depth, stage_bytes = (rows + columns) * depth;
  static constexpr int bytes = stages * stage_bytes;

  static_assert(warp_rows % 16 == 0 && warp_columns % group_columns == 0, "a warp's part is made of whole fragments");
  static_assert((slabs - 1) * rows * columns * 4 <= bytes, "sums of slabs meet in the memory of the stages");
  static_assert(bytes <= 99 * 1024, "more than a block of compute capability 8.6 or 8.9 can have");
};

// Where piece p of row r of a slab lies. Two rows of 64 bytes fill the 32 banks; pieces trade places so that the 8 rows
// that one ldmatrix reads lie in different banks: rows r .. r + 7 of x (distance 2), dealt rows of w (distance 8).
template <int distance>
__host__ __device__ constexpr int swizzled(int r, int p) {
  return r * slab + (p ^ (r / distance % pieces)) * piece;
}
constexpr int x_distance = 2, w_distance = 8;

// The row of w, among group_columns, that is column c of fragment f.
__host__ __device__ constexpr int dealt_row(int f, int c) { return c / 2 * lane_columns + f * 2 + c % 2; }

// Starts the copies of a [rows, depth] tile into a stage; zeros beyond rows_left and columns_left.
template <class Tile, int rows, int distance>
__device__ void fetch(std::int8_t* to, const std::int8_t* from, int stride, int rows_left, int columns_left) {
  static_assert(rows * Tile::slabs * pieces % Tile::threads == 0, "every thread makes the same number of copies");
#pragma unroll
  for (int i = 0; i < rows * Tile::slabs * pieces; i += Tile::threads) {
    const int at = i + static_cast<int>(threadIdx.x);
    const int p = at % pieces, r = at / pieces % rows, s = at / (pieces * rows);
    const int k = s * slab + p * piece;
    const bool inside = r < rows_left && k < columns_left;
    cp_async_16(to + s * rows * slab + swizzled<distance>(r, p), inside ? from + r * stride + k : from,
                inside ? piece : 0);
  }
}

template <class Tile>
using Sums = std::int32_t[Tile::fragments_m][Tile::fragments_n][4];

// sums += x w^T over one slab; x and w: the warp's rows of it.
template <class Tile>
__device__ void multiply_slab(Sums<Tile>& sums, const std::int8_t* x, const std::int8_t* w) {
  const int lane = lane_index();
#pragma unroll
  for (int step = 0; step < slab / 32; ++step) {
    std::uint32_t a[Tile::fragments_m][4], b[Tile::fragments_n][2];
#pragma unroll
    for (int m = 0; m < Tile::fragments_m; ++m) {
      ldmatrix_x4(a[m], x + swizzled<x_distance>(m * 16 + lane % 16, step * 2 + lane / 16));
    }
#pragma unroll
    for (int n = 0; n < Tile::fragments_n; n += 2) {  // two fragments, each of two pieces
      const int row = n / 4 * group_columns + dealt_row(n % 4 + lane / 16, lane % 8);
      std::uint32_t pair[4];
      ldmatrix_x4(pair, w + swizzled<w_distance>(row, step * 2 + lane / 8 % 2));
      for (int r = 0; r < 4; ++r) b[n + r / 2][r % 2] = pair[r];
    }
#pragma unroll
    for (int m = 0; m < Tile::fragments_m; ++m) {
#pragma unroll
      for (int n = 0; n < Tile::fragments_n; ++n) mma_16832(sums[m][n], a[m], b[n]);
    }
  }
}

// Adds the sums of all slabs in the warps of slab 0. Returns whether this warp has the totals.
template <class Tile>
__device__ bool sum_slabs(Sums<Tile>& sums, std::int32_t* scratch) {
  if constexpr (Tile::slabs == 1) return true;
  constexpr int part = Tile::threads / Tile::slabs, elements = Tile::fragments_m * Tile::fragments_n * 4;
  const int s = static_cast<int>(threadIdx.x) / part, thread = static_cast<int>(threadIdx.x) % part;
  std::int32_t* own = &sums[0][0][0];
  __syncthreads();  // the stages have been read
#pragma unroll
  for (int e = 0; e < elements; ++e) {
    if (s > 0) scratch[((s - 1) * elements + e) * part + thread] = own[e];
  }
  __syncthreads();  // the parts are complete
  if (s > 0) return false;
#pragma unroll
  for (int e = 0; e < elements; ++e) {
    for (int other = 1; other < Tile::slabs; ++other) own[e] += scratch[((other - 1) * elements + e) * part + thread];
  }
  return true;
}

}  // namespace ptq::cuda::s8

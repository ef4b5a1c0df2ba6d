// int8 x int8 product on tensor cores, exact in s32, with scales, outlier columns and bias in the epilogue
//   formula   y[t,j] = float(sum_k x[t,k] w[j,k]) * (x_scales[t] * w_scales[j]) + sum_c outliers[t,c] v[c,j] + bias[j]
//   shapes    y (T, N)   x (T, stride)   w (N, stride)   outliers (T, C)   v (C, padded N), weights as floats
//   maps      block <-> tile of y; warp <-> part of the tile, or of the columns of a stage (gemm_s8_tile.cuh); stages
//             are filled by cp.async while the oldest is multiplied
//   cost      2 T N I operations: compute-bound from a few hundred rows on, below that bound by reading w
//   twin      host/cpu/int8.cpp     test  tests/test_ops_products.cpp     chain  C + 3 roundings
#include "cuda/gemm_s8.h"

#include "cuda/chunk.cuh"
#include "cuda/gemm_s8_tile.cuh"
#include "cuda/types.h"

namespace ptq::cuda {

namespace {

using namespace s8;

constexpr int blocks_of_sm = 2;  // at least, where its shared memory allows: one multiplies while the other starts

// 64 x 64 a warp: 128 registers of sums, and fragments are used often enough that shared memory keeps up with mma.
using Large = TileSizes<2, 2, 1, 64, 64>;
// Few rows are bound by reading w: narrow tiles for many blocks, whose warps share the columns of a stage.
using Middle = TileSizes<1, 1, 4, 64, 32>;
using Few = TileSizes<1, 1, 4, 16, 32>;

// Large tiles are used when there are enough to occupy a device (108 multiprocessors in an A100, 132 in an H100).
constexpr std::int64_t enough_blocks = 128;

// Tiles are taken in bands of 8 rows: blocks that run at the same time then share x and w in the second-level cache.
struct Place {
  std::int64_t row, column;
};
__device__ inline Place place_of(unsigned block, std::int64_t rows, std::int64_t columns) {
  constexpr unsigned band = 8;
  const auto height = static_cast<unsigned>(rows), width = static_cast<unsigned>(columns);
  const unsigned first = block / (band * width) * band, at = block % (band * width);
  const unsigned rows_here = height - first < band ? height - first : band;
  return {first + at % rows_here, at / rows_here};
}

// How much of a tile's `size` rows or columns exists.
__device__ inline int left(std::int64_t all, std::int64_t first, int size) {
  return all - first < size ? static_cast<int>(all - first) : size;
}

// What the epilogue reads (gemm_s8.h).
struct Epilogue {
  const float* x_scales;         // (T)
  const float* w_scales;         // (N)
  const float* bias;             // (N) or null
  const float* outliers;         // (T, C)
  const float* outlier_weights;  // (C, outlier_stride)
  std::int64_t outlier_columns, outlier_stride;
};

// Sums to values of y; (row0, column0) is the warp's first. Columns in groups, so that their scales stay in registers.
template <class Tile, class Out>
__device__ void finish(Out* y, const Sums<Tile>& sums, const Epilogue& e, std::int64_t row0, std::int64_t column0,
                       std::int64_t rows, std::int64_t n, bool wide) {
  const int lane = lane_index();
#pragma unroll
  for (int g = 0; g < Tile::groups; ++g) {
    const std::int64_t column = column0 + g * group_columns + mma_c_col(lane, 0) / 2 * lane_columns;
    const std::int64_t count = n - column;
    if (count <= 0) continue;
    float scale[lane_columns], bias[lane_columns];
#pragma unroll
    for (int j = 0; j < lane_columns; ++j) {
      scale[j] = j < count ? e.w_scales[column + j] : 0.0f;
      bias[j] = e.bias != nullptr && j < count ? e.bias[column + j] : 0.0f;
    }
#pragma unroll
    for (int i = 0; i < Tile::fragments_m * 2; ++i) {  // upper and lower half of each fragment
      const int m = i / 2, half = i % 2 * 2;
      const std::int64_t row = row0 + m * 16 + mma_c_row(lane, half);
      if (row >= rows) continue;
      const float row_scale = e.x_scales[row];
      float value[lane_columns];
#pragma unroll
      for (int j = 0; j < lane_columns; ++j)
        value[j] = static_cast<float>(sums[m][g * 4 + j / 2][half + j % 2]) * (row_scale * scale[j]);
      if (e.outlier_columns > 0) {
        float more[lane_columns] = {};
        for (std::int64_t c = 0; c < e.outlier_columns; ++c) {
          const float x = e.outliers[row * e.outlier_columns + c];
          const float* v = e.outlier_weights + c * e.outlier_stride + column;
#pragma unroll
          for (int j = 0; j < lane_columns; ++j) more[j] = fmaf(x, v[j], more[j]);
        }
#pragma unroll
        for (int j = 0; j < lane_columns; ++j) value[j] += more[j];
      }
      if (e.bias != nullptr) {
#pragma unroll
        for (int j = 0; j < lane_columns; ++j) value[j] += bias[j];
      }
      Out* to = y + row * n + column;
      if (wide)
        store<true>(to, value, count);
      else
        store<false>(to, value, count);
    }
  }
}

template <class Tile, class Out>
__global__ void __launch_bounds__(Tile::threads, blocks_of_sm)
    gemm_s8_kernel(Out* __restrict__ y,                // (T, N)
                   const std::int8_t* __restrict__ x,  // (T, stride)
                   const std::int8_t* __restrict__ w,  // (N, stride)
                   Epilogue epilogue,
                   std::int64_t rows,  // T
                   std::int64_t n,     // N
                   int stride,         // of rows of x and w
                   bool wide) {
  auto* shared = dynamic_smem<std::int8_t>();
  const Place place = place_of(blockIdx.x, tiles(rows, Tile::rows), tiles(n, Tile::columns));
  const std::int64_t row0 = place.row * Tile::rows, column0 = place.column * Tile::columns;
  const int warp = warp_index(), mine = warp / (Tile::warps_m * Tile::warps_n);  // slab
  const int warp_m = warp % Tile::warps_m, warp_n = warp / Tile::warps_m % Tile::warps_n;
  const int rows_left = left(rows, row0, Tile::rows), columns_left = left(n, column0, Tile::columns);
  const int steps = static_cast<int>(tiles(stride, Tile::depth));
  x += row0 * stride;
  w += column0 * stride;

  const auto fetch_stage = [&](int step) {
    if (step < steps) {
      std::int8_t* to = shared + step % Tile::stages * Tile::stage_bytes;
      const int k = step * Tile::depth;
      fetch<Tile, Tile::rows, x_distance>(to, x + k, stride, rows_left, stride - k);
      fetch<Tile, Tile::columns, w_distance>(to + Tile::x_bytes, w + k, stride, columns_left, stride - k);
    }
    cp_async_commit();  // also an empty group: the wait below counts groups
  };

  Sums<Tile> sums = {};
  for (int step = 0; step < Tile::stages - 1; ++step) fetch_stage(step);
  for (int step = 0; step < steps; ++step) {
    cp_async_wait<Tile::stages - 2>();
    __syncthreads();  // all copies of this stage have arrived, and all warps have read the one that is filled next
    fetch_stage(step + Tile::stages - 1);
    const std::int8_t* stage = shared + step % Tile::stages * Tile::stage_bytes;
    multiply_slab<Tile>(sums, stage + (mine * Tile::rows + warp_m * Tile::warp_rows) * slab,
                        stage + Tile::x_bytes + (mine * Tile::columns + warp_n * Tile::warp_columns) * slab);
  }
  if (!sum_slabs<Tile>(sums, reinterpret_cast<std::int32_t*>(shared))) return;
  finish<Tile>(y, sums, epilogue, row0 + warp_m * Tile::warp_rows, column0 + warp_n * Tile::warp_columns, rows, n,
               wide);
}

template <class Tile, class Out>
void launch_tile(const GemmS8& g, Stream stream) {
  const auto rows = static_cast<double>(g.rows), n = static_cast<double>(g.n), depth = static_cast<double>(g.stride);
  const Epilogue epilogue{
      g.x_scales, g.w_scales, g.bias, g.outliers, g.outlier_weights, g.outlier_columns, s8_outlier_stride(g.n)};
  const bool wide = g.n % lane_columns == 0 && fits_vectors(0, {g.y});
  launch("gemm_s8", gemm_s8_kernel<Tile, Out>,
         {.grid = static_cast<unsigned>(tiles(g.rows, Tile::rows) * tiles(g.n, Tile::columns)),
          .block = Tile::threads,
          .smem = Tile::bytes,
          .stream = stream,
          .flops = 2.0 * rows * n * (depth + static_cast<double>(g.outlier_columns)),
          .bytes = (rows + n) * depth + static_cast<double>(sizeof(Out)) * rows * n},
         static_cast<Out*>(g.y), g.x, g.w, epilogue, g.rows, g.n, static_cast<int>(g.stride), wide);
}

}  // namespace

// The tile does not show in the result: sums are exact, and the epilogue treats every element alike.
void gemm_s8(const GemmS8& g, Stream stream) {
  visit_float(g.dtype, [&](auto type) {
    using Out = decltype(type);
    if (g.rows <= Few::rows) return launch_tile<Few, Out>(g, stream);
    if (tiles(g.rows, Large::rows) * tiles(g.n, Large::columns) < enough_blocks)
      return launch_tile<Middle, Out>(g, stream);
    launch_tile<Large, Out>(g, stream);
  });
}

}  // namespace ptq::cuda

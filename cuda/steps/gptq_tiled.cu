// GPTQ sweep, step 2: a block of columns in shared memory, the rest as a tiled product
// Against step 1: rows need nothing of each other, so that all columns of a block are one launch in which 8 threads
// have a row. W and U of the block are read once into shared memory and pass from column to column there
// (gptq_columns.cuh). Behind the block, a value read from shared memory takes part in 4 fmaf instead of one.
//   formula   as step 1
//   shapes    W (N, I) f32   codes (N, I) u8   scales, zeros (N, G) f32   row_error (N) f64   U (I, I) f32, upper
//   maps      columns: block <-> 32 rows. rest: block <-> 64 x 64 elements of W, thread <-> 4 x 4 neighbours
//   cost      N I^2 flops in 2 or 3 launches a block of columns, on fp32 units; W is read and written I / (2 B) times,
//             U read N / 64 times (from the second-level cache)
//   twin      host/cpu/gptq.cpp, in its order and rounding: the same codes     test  tests/test_ops_sweep.cpp
//   chain     B
#include "cuda/outer_product.cuh"
#include "cuda/steps/gptq.h"
#include "cuda/steps/gptq_columns.cuh"

namespace ptq::cuda {

namespace {

constexpr int side = 64;       // of a tile of W: two operands of 16 x 64 are 8 KiB
constexpr int micro = 4;       // rows and columns of a thread
constexpr int depth = 16;      // columns of the block at a time
constexpr int gap = side + 4;  // between rows of a transposed tile: fewer writes to one bank, still 16-byte aligned
constexpr int tile_threads = side / micro * (side / micro);

}  // namespace

__global__ void __launch_bounds__(gptq_steps::threads) gptq_step_columns_kernel(Sweep s, int begin, int end) {
  gptq_steps::round_columns(s, static_cast<int>(blockIdx.x) * gptq_steps::rows, begin, end);
}

__global__ void __launch_bounds__(tile_threads) gptq_tiled_rest_kernel(float* __restrict__ w,             // (N, I)
                                                                       const float* __restrict__ errors,  // (N, B)
                                                                       const float* __restrict__ u,       // (I, I)
                                                                       int rows,                          // N
                                                                       int columns,                       // I
                                                                       int block,                         // B
                                                                       int begin,                         // the block
                                                                       int end) {                         // behind it
  auto* const e_tile = dynamic_smem<float>();  // [16][68]: columns of the block, rows of W
  float* const u_tile = e_tile + depth * gap;  // [16][64]
  const int t = static_cast<int>(threadIdx.x), y = t / (side / micro) * micro, x = t % (side / micro) * micro;
  const std::int64_t first = std::int64_t{blockIdx.x} * side;
  const int c = end + static_cast<int>(blockIdx.y) * side;
  float sum[micro][micro] = {};
  for (int i = begin; i < end; i += depth) {
    for (int q = t; q < depth * side; q += tile_threads) {
      const std::int64_t row = first + q / depth;
      const int k = q % depth;
      e_tile[k * gap + q / depth] = row < rows && i + k < end ? errors[row * block + i - begin + k] : 0.0f;
    }
    for (int q = t; q < depth * side; q += tile_threads) {
      const int k = i + q / side, column = c + q % side;
      u_tile[q] = k < end && column < columns ? u[std::int64_t{k} * columns + column] : 0.0f;
    }
    __syncthreads();  // the operands are complete
    for (int k = 0; k < depth; ++k) {
      float e[micro], v[micro];
      load4(e, e_tile + k * gap + y);
      load4(v, u_tile + k * side + x);
#pragma unroll
      for (int a = 0; a < micro; ++a) {
#pragma unroll
        for (int b = 0; b < micro; ++b) sum[a][b] = fmaf(e[a], v[b], sum[a][b]);
      }
    }
    __syncthreads();  // the operands may be overwritten
  }
#pragma unroll
  for (int a = 0; a < micro; ++a) {
#pragma unroll
    for (int b = 0; b < micro; ++b) {
      if (first + y + a < rows && c + x + b < columns) w[(first + y + a) * columns + c + x + b] -= sum[a][b];
    }
  }
}

void gptq_step_columns(const Sweep& s, int begin, int end, Stream stream) {
  const double n = s.rows, width = end - begin;
  launch("gptq_step_columns", gptq_step_columns_kernel,
         {.grid = static_cast<unsigned>(tiles(s.rows, gptq_steps::rows)),
          .block = gptq_steps::threads,
          .smem = gptq_steps::columns_bytes,
          .stream = stream,
          .flops = n * width * width,
          .bytes = 13.0 * n * width + 2.0 * width * width},
         s, begin, end);
}

void gptq_sweep_tiled(Sweep s, Stream stream) {
  const double n = s.rows;
  for (int begin = 0; begin < s.columns; begin += s.block) {
    const int end = std::min(begin + s.block, s.columns), rest = s.columns - end;
    gptq_step_grids(s, begin, end, stream);
    gptq_step_columns(s, begin, end, stream);
    launch("gptq_tiled_rest", gptq_tiled_rest_kernel,
           {.grid = dim3(static_cast<unsigned>(tiles(s.rows, side)), static_cast<unsigned>(tiles(rest, side))),
            .block = tile_threads,
            .smem = depth * (gap + side) * sizeof(float),
            .stream = stream,
            .flops = 2.0 * n * rest * (end - begin),
            .bytes = 8.0 * n * rest + 4.0 * (n + rest) * (end - begin)},
           s.w, s.scratch, s.u, s.rows, s.columns, s.block, begin, end);
  }
}

}  // namespace ptq::cuda

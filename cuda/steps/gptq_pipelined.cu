// GPTQ sweep, step 4: one launch, and the next operands on their way while these are multiplied
// Against step 2: a block of threads keeps its 32 rows of W from the first column to the last, because rows need
// nothing of each other: no launch ends, and no other block is waited for. cp.async copies the next part of e and U to
// shared memory while the one before is multiplied. fp32 units again, in the order of step 1, so that codes are the
// CPU's.
//   formula   as step 1
//   shapes    W (N, I) f32   codes (N, I) u8   scales, zeros (N, G) f32   row_error (N) f64   U (I, I) f32, upper
//   maps      block <-> 32 rows. Behind a block of columns: 256 columns at a time, thread <-> 8 rows x 4 columns
//   cost      N I^2 flops in one launch; U read N / 32 times (from the second-level cache)
//   twin      host/cpu/gptq.cpp, in its order and rounding: the same codes     test  tests/test_ops_sweep.cpp
//   chain     B
#include "cuda/outer_product.cuh"
#include "cuda/ptx.cuh"
#include "cuda/steps/gptq.h"
#include "cuda/steps/gptq_columns.cuh"

namespace ptq::cuda {

namespace {

using gptq_steps::rows;
using gptq_steps::threads;

constexpr int panel = 256;  // columns of W at a time
constexpr int depth = 16;   // columns of the block at a time
constexpr int micro_rows = 8, micro_columns = 4;
constexpr int part_floats = depth * (rows + panel);  // two parts are 36 KiB, in the memory of round_columns()
static_assert(threads == rows / micro_rows * (panel / micro_columns), "threads cover a panel");
static_assert(2 * part_floats * sizeof(float) <= gptq_steps::columns_bytes, "both parts fit");

// Starts the copy of columns [i, i + 16) of the block's errors and of these rows of U in columns [c, c + 256); zeros
// beyond the block and the edges. By single floats, because rows of odd width are not aligned.
__device__ void copy_part(float* to, const Sweep& s, int first, int begin, int end, int i, int c) {
  const int t = static_cast<int>(threadIdx.x);
  for (int q = t; q < rows * depth; q += threads) {
    const std::int64_t row = first + q / depth;
    const int k = i + q % depth;
    const bool exists = row < s.rows && k < end;
    const float* from = exists ? s.scratch + row * s.block + k - begin : s.scratch;
    cp_async_4(to + q % depth * rows + q / depth, from, exists ? 4 : 0);
  }
  float* const u = to + depth * rows;
  for (int q = t; q < depth * panel; q += threads) {
    const int k = i + q / panel, column = c + q % panel;
    const bool exists = k < end && column < s.columns;
    cp_async_4(u + q, exists ? s.u + std::int64_t{k} * s.columns + column : s.u, exists ? 4 : 0);
  }
}

// What the block of columns [begin, end) does to those behind it.
__device__ void update_rest(const Sweep& s, int first, int begin, int end) {
  auto* const memory = dynamic_smem<float>();  // [2]: e [16][32] and U [16][256]
  const int t = static_cast<int>(threadIdx.x);
  const int r = t / (panel / micro_columns) * micro_rows, x = t % (panel / micro_columns) * micro_columns;
  const int panel_parts = static_cast<int>(tiles(end - begin, depth));
  const int count = panel_parts * static_cast<int>(tiles(s.columns - end, panel));
  const auto copy = [&](int n) {
    const int i = begin + n % panel_parts * depth, c = end + n / panel_parts * panel;
    if (n < count) copy_part(memory + n % 2 * part_floats, s, first, begin, end, i, c);
    cp_async_commit();  // empty behind the last part, so that one count fits all
  };
  copy(0);
  for (int n = 0, c = end; c < s.columns; c += panel) {
    float sum[micro_rows][micro_columns] = {};
    for (int p = 0; p < panel_parts; ++p, ++n) {
      copy(n + 1);
      cp_async_wait<1>();
      __syncthreads();  // this part is complete
      const float* const e = memory + n % 2 * part_floats + r;
      const float* const u = memory + n % 2 * part_floats + depth * rows + x;
#pragma unroll 4
      for (int k = 0; k < depth; ++k) {
        float a[micro_rows], b[micro_columns];
        load4(a, e + k * rows);
        load4(a + 4, e + k * rows + 4);
        load4(b, u + k * panel);
#pragma unroll
        for (int i = 0; i < micro_rows; ++i) {
#pragma unroll
          for (int j = 0; j < micro_columns; ++j) sum[i][j] = fmaf(a[i], b[j], sum[i][j]);
        }
      }
      __syncthreads();  // this part may be overwritten
    }
#pragma unroll
    for (int i = 0; i < micro_rows; ++i) {
#pragma unroll
      for (int j = 0; j < micro_columns; ++j) {
        const std::int64_t row = first + r + i;
        if (row < s.rows && c + x + j < s.columns) s.w[row * s.columns + c + x + j] -= sum[i][j];
      }
    }
  }
}

}  // namespace

__global__ void __launch_bounds__(threads) gptq_pipelined_kernel(Sweep s) {
  const int first = static_cast<int>(blockIdx.x) * rows;
  for (int begin = 0; begin < s.columns; begin += s.block) {
    const int end = std::min(begin + s.block, s.columns);
    if (s.find_grids) find_grids(s, first, gptq_steps::rows, begin, end);
    gptq_steps::round_columns(s, first, begin, end);  // its first barrier completes the grids
    if (end < s.columns) update_rest(s, first, begin, end);
    __syncthreads();  // W is ready for the next block
  }
}

void gptq_sweep_pipelined(Sweep s, Stream stream) {
  const double n = s.rows, i = s.columns;
  launch("gptq_pipelined", gptq_pipelined_kernel,
         {.grid = static_cast<unsigned>(tiles(s.rows, rows)),
          .block = threads,
          .smem = gptq_steps::columns_bytes,
          .stream = stream,
          .flops = n * i * i,
          .bytes = 9.0 * n * i + 2.0 * i * i},
         s);
}

}  // namespace ptq::cuda

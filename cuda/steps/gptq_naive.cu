// GPTQ sweep, step 1: two launches a column, as the loops of Python do it
//   formula   for the columns c of a block B in order:  q_c = Q(w_c),  e_c = (w_c - q_c) / U_cc,
//             w_k -= e_c U_ck for the later columns k of B;  after the block, w_k -= sum_{c in B} e_c U_ck for all k
//             behind it.  row_error = sum_c (w_c - q_c)^2 / U_cc^2 / 2
//   shapes    W (N, I) f32   codes (N, I) u8   scales, zeros (N, G) f32   row_error (N) f64   U (I, I) f32, upper
//   maps      grids: warp <-> group of a row. round: thread <-> row. subtract, rest: thread <-> element of W
//   cost      N I^2 flops in 2 I + 2 I / B launches; subtract reads and writes N B / 2 elements of W a column, rest
//             reads an element of e and of U for every fmaf; round touches a line of memory a row
//   twin      host/cpu/gptq.cpp, in its order and rounding: the same codes     test  tests/test_ops_sweep.cpp
//   chain     B
#include "cuda/steps/gptq.h"
#include "cuda/steps/gptq_columns.cuh"

namespace ptq::cuda {

namespace {

constexpr int column_threads = 128;  // of a row, in the kernels whose threads are elements of W

}  // namespace

__global__ void __launch_bounds__(gptq_steps::threads) gptq_step_grids_kernel(Sweep s, int begin, int end) {
  find_grids(s, static_cast<int>(blockIdx.x) * gptq_steps::rows, gptq_steps::rows, begin, end);
}

__global__ void __launch_bounds__(gptq_steps::threads) gptq_naive_round_kernel(Sweep s, int begin, int column) {
  const std::int64_t row = std::int64_t{blockIdx.x} * gptq_steps::threads + threadIdx.x;
  if (row >= s.rows) return;
  const std::int64_t at = row * s.columns + column;
  const float d = s.u[std::int64_t{column} * s.columns + column];
  const auto x = gptq_steps::round_weight(s.w[at], gptq_steps::grid_of_column(s, row, column), d, s);
  s.w[at] = x.q;
  s.codes[at] = x.code;
  s.scratch[row * s.block + column - begin] = x.e;
  s.row_error[row] = (column == 0 ? 0.0 : s.row_error[row]) + static_cast<double>(x.loss);
}

// What rounding a column does to the columns behind it in the block.
__global__ void __launch_bounds__(column_threads)
    gptq_naive_subtract_kernel(float* __restrict__ w,             // (N, I)
                               const float* __restrict__ errors,  // (N, B)
                               const float* __restrict__ u,       // (I, I)
                               int columns,                       // I
                               int block,                         // B
                               int begin,                         // of the block
                               int column,                        // that has been rounded
                               int end) {                         // of the block
  const std::int64_t row = blockIdx.x;
  const int k = column + 1 + static_cast<int>(blockIdx.y * column_threads + threadIdx.x);
  if (k >= end) return;
  w[row * columns + k] -= errors[row * block + column - begin] * u[std::int64_t{column} * columns + k];
}

// What a block does to the columns behind it.
__global__ void __launch_bounds__(column_threads) gptq_naive_rest_kernel(float* __restrict__ w,             // (N, I)
                                                                         const float* __restrict__ errors,  // (N, B)
                                                                         const float* __restrict__ u,       // (I, I)
                                                                         int columns,                       // I
                                                                         int block,                         // B
                                                                         int begin,  // of the block
                                                                         int end) {  // of the block
  const std::int64_t row = blockIdx.x;
  const int k = end + static_cast<int>(blockIdx.y * column_threads + threadIdx.x);
  if (k >= columns) return;
  float sum = 0.0f;
  for (int i = begin; i < end; ++i) {
    sum = fmaf(errors[row * block + i - begin], u[std::int64_t{i} * columns + k], sum);
  }
  w[row * columns + k] -= sum;
}

void gptq_step_grids(const Sweep& s, int begin, int end, Stream stream) {
  if (!s.find_grids) return;
  const std::int64_t groups = tiles(end, s.group) - tiles(begin, s.group);
  if (groups == 0) return;
  launch("gptq_step_grids", gptq_step_grids_kernel,
         {.grid = static_cast<unsigned>(tiles(s.rows, gptq_steps::rows)),
          .block = gptq_steps::threads,
          .stream = stream,
          .bytes = static_cast<double>(s.rows) * static_cast<double>(groups) * (4.0 * s.group + 8.0)},
         s, begin, end);
}

void gptq_sweep_naive(Sweep s, Stream stream) {
  const auto elements = [&](int n) {  // blocks of threads for n columns of all rows
    return dim3(static_cast<unsigned>(s.rows), static_cast<unsigned>(tiles(n, column_threads)));
  };
  const double n = s.rows;
  for (int begin = 0; begin < s.columns; begin += s.block) {
    const int end = std::min(begin + s.block, s.columns), rest = s.columns - end;
    gptq_step_grids(s, begin, end, stream);
    for (int column = begin; column < end; ++column) {
      const int later = end - column - 1;
      launch("gptq_naive_round", gptq_naive_round_kernel,
             {.grid = static_cast<unsigned>(tiles(s.rows, gptq_steps::threads)),
              .block = gptq_steps::threads,
              .stream = stream,
              .bytes = 37.0 * n},
             s, begin, column);
      launch("gptq_naive_subtract", gptq_naive_subtract_kernel,
             {.grid = elements(later),
              .block = column_threads,
              .stream = stream,
              .flops = 2.0 * n * later,
              .bytes = 8.0 * n * later},
             s.w, s.scratch, s.u, s.columns, s.block, begin, column, end);
    }
    launch("gptq_naive_rest", gptq_naive_rest_kernel,
           {.grid = elements(rest),
            .block = column_threads,
            .stream = stream,
            .flops = 2.0 * n * rest * (end - begin),
            .bytes = 8.0 * n * rest + 4.0 * (n + rest) * (end - begin)},
           s.w, s.scratch, s.u, s.columns, s.block, begin, end);
  }
}

}  // namespace ptq::cuda

// GEMM, step 1: one thread an output, operands straight from global memory
//   formula   y[t,n] = round(b[n] + sum_i x[t,i] w[n,i]): a chain of fmaf in fp32 over i ascending
//   shapes    y (T, N)   x (T, I)   w (N, I)   b (N) f32 or none
//   maps      block ↔ 16 x 16 outputs, thread ↔ one, neighbours in a row
//   cost      2 T N I flops; two loads of one element for every fmaf: bound by the first-level cache
//   twin      host/cpu/matmul.cpp     test  tests/test_ops_products.cpp     chain  I
#include "cuda/steps/gemm.h"
#include "cuda/steps/gemm_step.cuh"

namespace ptq::cuda {

namespace {

constexpr int side = 16;  // square blocks use a loaded row of x or w most often: 16 times
constexpr int threads = side * side;

}  // namespace

template <class T>
__global__ void __launch_bounds__(threads) gemm_naive_kernel(const GemmStep<T> g) {
  const int thread = static_cast<int>(threadIdx.x);
  const std::int64_t row = std::int64_t{blockIdx.x} * side + thread / side;
  const std::int64_t column = std::int64_t{blockIdx.y} * side + thread % side;
  if (row >= g.rows || column >= g.columns) return;
  const T* const x = g.x + row * g.ldx;
  const T* const w = g.w + column * g.ldw;
  float sum = 0.0f;
  for (int i = 0; i < g.depth; ++i) sum = fmaf(as_float(x[i]), as_float(w[i]), sum);
  g.store(row, column, sum);
}

void gemm_naive(void* y, const GemmShape& g, const float* bias, Stream stream) {
  visit_half(g.type, [&]<class T>(T) {
    launch_gemm_step<T>("gemm_naive", gemm_naive_kernel<T>, side, side, threads, 0, y, g, bias, stream);
  });
}

}  // namespace ptq::cuda

// GEMM, step 4: loads ahead of the products
// Against step 3: cp.async copies from global to shared memory without passing through registers and without waiting.
// A ring of 4 stages holds 4 steps of k: while one is multiplied, the next 3 are on their way, and one barrier a step
// is enough.
//   formula   y[t,n] = round(b[n] + sum_i x[t,i] w[n,i]): products exact, sums in fp32 over i ascending, 16 at a time
//   shapes    y (T, N)   x (T, I)   w (N, I)   b (N) f32 or none
//   maps      block ↔ 128 x 128 outputs, warp ↔ 64 x 32
//   cost      2 T N I flops: compute-bound; reads x N / 128 times and w T / 128 times from L2
//   twin      host/cpu/matmul.cpp     test  tests/test_ops_products.cpp     chain  I
#include "cuda/steps/gemm.h"
#include "cuda/steps/gemm_mma.cuh"

namespace ptq::cuda {

using namespace gemm_steps;

namespace {

constexpr int stages = 4;  // 80 KiB: two blocks fit an SM of A100 or H100

// Starts the copies of rows of x or w from `from` on, 32 of k. Zeros where fewer rows or columns are left.
template <class T>
__device__ void copy_mma_tile(uint4* to, const T* from, std::int64_t ld, std::int64_t rows_left, int columns_left) {
  const int first = static_cast<int>(threadIdx.x) / row_chunks, at = static_cast<int>(threadIdx.x) % row_chunks;
  const int column = at * chunk<T>, elements = max(0, min(columns_left - column, chunk<T>));
#pragma unroll
  for (int pass = 0; pass < tile; pass += threads / row_chunks) {
    const int row = first + pass;
    cp_async_16(to + row * padded_chunks + at, from + row * ld + column,
                row < rows_left ? elements * static_cast<int>(sizeof(T)) : 0);
  }
}

}  // namespace

template <class T>
__global__ void __launch_bounds__(threads, 2) gemm_pipelined_kernel(const GemmStep<T> g) {
  const auto stage = [](int step) { return dynamic_smem<uint4>() + step % stages * 2 * tile_chunks; };
  const std::int64_t m = std::int64_t{blockIdx.x} * tile, n = std::int64_t{blockIdx.y} * tile;
  const int steps = static_cast<int>(tiles(g.depth, tile_depth));
  const auto fetch = [&](int step) {
    if (step < steps) {
      const int k = step * tile_depth;
      copy_mma_tile(stage(step), g.x + m * g.ldx + k, g.ldx, g.rows - m, g.depth - k);
      copy_mma_tile(stage(step) + tile_chunks, g.w + n * g.ldw + k, g.ldw, g.columns - n, tile_depth);
    }
    cp_async_commit();  // beyond the end a group of no copies, so that the count of the wait fits all steps
  };

  Sums sums = {};
  for (int step = 0; step < stages - 1; ++step) fetch(step);
  for (int step = 0; step < steps; ++step) {
    cp_async_wait<stages - 2>();
    __syncthreads();  // every thread's copies of this step are there, and nobody reads the stage of the step before
    fetch(step + stages - 1);  // into that stage
    multiply<T>(sums, stage(step), stage(step) + tile_chunks);
  }
  store(g, sums, m, n);
}

void gemm_pipelined(void* y, const GemmShape& g, const float* bias, Stream stream) {
  constexpr std::size_t smem = std::size_t{stages} * 2 * tile_chunks * sizeof(uint4);
  visit_half(g.type, [&]<class T>(T) {
    launch_gemm_step<T>("gemm_pipelined", gemm_pipelined_kernel<T>, tile, tile, threads, smem, y, g, bias, stream);
  });
}

}  // namespace ptq::cuda

// GEMM, step 3: the products on tensor cores
// Against step 2: tiles stay halves in shared memory, and a warp multiplies them by mma.m16n8k16, one instruction for
// 2048 products; ldmatrix brings the operands into the registers where mma expects them (gemm_mma.cuh).
//   formula   y[t,n] = round(b[n] + sum_i x[t,i] w[n,i]): products exact, sums in fp32 over i ascending, 16 at a time
//   shapes    y (T, N)   x (T, I)   w (N, I)   b (N) f32 or none
//   maps      block ↔ 128 x 128 outputs, warp ↔ 64 x 32
//   cost      2 T N I flops; reads x N / 128 times and w T / 128 times from L2: bound by the latency of these reads, as
//             a block either reads or multiplies
//   twin      host/cpu/matmul.cpp     test  tests/test_ops_products.cpp     chain  I
#include "cuda/steps/gemm.h"
#include "cuda/steps/gemm_mma.cuh"

namespace ptq::cuda {

using namespace gemm_steps;

namespace {

constexpr int pass_rows = threads / row_chunks;  // of which the block reads a chunk a thread
using Held = uint4[tile / pass_rows];            // a thread's chunks of a tile

// Reads rows of x or w from `from` on, 32 of k. Zeros where fewer rows or columns are left.
template <class T>
__device__ void read_tile(Held& held, const T* from, std::int64_t ld, std::int64_t rows_left, int columns_left) {
  const int row = static_cast<int>(threadIdx.x) / row_chunks;
  const int column = static_cast<int>(threadIdx.x) % row_chunks * chunk<T>, count = columns_left - column;
  from += row * ld + column;
#pragma unroll
  for (int pass = 0; pass < tile; pass += pass_rows) {
    const bool whole = row + pass < rows_left && count >= chunk<T>;
    held[pass / pass_rows] = whole ? *reinterpret_cast<const uint4*>(from + pass * ld) : make_uint4(0, 0, 0, 0);
  }
  if (count >= chunk<T>) return;
#pragma unroll
  for (int pass = 0; pass < tile; pass += pass_rows) {  // the end of x, if I is no multiple of 8
    float values[chunk<T>];
    load<false>(values, from + pass * ld, row + pass < rows_left ? count : 0);
    held[pass / pass_rows] = narrow<T>(values);
  }
}

__device__ void write_tile(uint4* to, const Held& held) {
  to += static_cast<int>(threadIdx.x) / row_chunks * padded_chunks + static_cast<int>(threadIdx.x) % row_chunks;
#pragma unroll
  for (int pass = 0; pass < tile; pass += pass_rows) to[pass * padded_chunks] = held[pass / pass_rows];
}

}  // namespace

template <class T>
__global__ void __launch_bounds__(threads) gemm_tensor_kernel(const GemmStep<T> g) {
  auto* const x = dynamic_smem<uint4>();  // [128, 5]
  uint4* const w = x + tile_chunks;       // [128, 5]
  const std::int64_t m = std::int64_t{blockIdx.x} * tile, n = std::int64_t{blockIdx.y} * tile;
  Sums sums = {};
  for (int k = 0; k < g.depth; k += tile_depth) {
    Held x_held, w_held;
    read_tile(x_held, g.x + m * g.ldx + k, g.ldx, g.rows - m, g.depth - k);
    read_tile(w_held, g.w + n * g.ldw + k, g.ldw, g.columns - n, tile_depth);
    write_tile(x, x_held);  // waits for the loads, which are under way together
    write_tile(w, w_held);
    __syncthreads();  // both tiles are complete
    multiply<T>(sums, x, w);
    __syncthreads();  // nobody reads the tiles any more
  }
  store(g, sums, m, n);
}

void gemm_tensor(void* y, const GemmShape& g, const float* bias, Stream stream) {
  constexpr std::size_t smem = std::size_t{2} * tile_chunks * sizeof(uint4);
  visit_half(g.type, [&]<class T>(T) {
    launch_gemm_step<T>("gemm_tensor", gemm_tensor_kernel<T>, tile, tile, threads, smem, y, g, bias, stream);
  });
}

}  // namespace ptq::cuda

// GEMM, step 2: tiles in shared memory, a small tile of outputs in the registers of a thread
// Against step 1: a block reads its rows of x and w once, 32 of k at a time, and all its threads use them; and a value
// read from shared memory takes part in 4 fmaf instead of one.
//   formula   y[t,n] = round(b[n] + sum_i x[t,i] w[n,i]): a chain of fmaf in fp32 over i ascending
//   shapes    y (T, N)   x (T, I)   w (N, I)   b (N) f32 or none
//   maps      block ↔ 64 x 64 outputs, thread ↔ 4 x 4 of them, at distances of 16 rows and 16 columns
//   cost      2 T N I flops on the fp32 units: compute-bound; reads x N / 64 times and w T / 64 times from L2, and 16
//             bytes of shared memory for every 8 fmaf
//   twin      host/cpu/matmul.cpp     test  tests/test_ops_products.cpp     chain  I
#include "cuda/chunk.cuh"
#include "cuda/steps/gemm.h"
#include "cuda/steps/gemm_step.cuh"

namespace ptq::cuda {

namespace {

constexpr int tile = 64;  // rows and columns of y: two tiles of floats are 18 KiB
constexpr int micro = 4;  // rows and columns of a thread: 8 loads of 16 bytes for 64 fmaf
constexpr int side = tile / micro;
constexpr int threads = side * side;
constexpr int tile_depth = 32;              // of k at a time; divides ldw
constexpr int row_floats = tile_depth + 4;  // 8 rows of a column of 16 bytes lie in 8 x 4 different banks

// Rows of x or w from `from` on, 32 of k, as floats: 16 bytes a thread. Zeros where fewer rows or columns are left.
template <class T>
__device__ void load_tile(float* to, const T* from, std::int64_t ld, std::int64_t rows_left, int columns_left) {
  constexpr int chunks = tile_depth / chunk<T>;
  static_assert(tile * chunks == threads, "a chunk a thread");
  const int row = static_cast<int>(threadIdx.x) / chunks, column = static_cast<int>(threadIdx.x) % chunks * chunk<T>;
  float values[chunk<T>];
  load_any<true>(values, from + row * ld + column, row < rows_left ? columns_left - column : 0);
  store<true>(to + row * row_floats + column, values, chunk<T>);
}

}  // namespace

template <class T>
__global__ void __launch_bounds__(threads) gemm_tiled_kernel(const GemmStep<T> g) {
  auto* const x = dynamic_smem<float>();   // [64, 36]
  float* const w = x + tile * row_floats;  // [64, 36]
  const int down = static_cast<int>(threadIdx.x) / side, across = static_cast<int>(threadIdx.x) % side;
  const std::int64_t m = std::int64_t{blockIdx.x} * tile, n = std::int64_t{blockIdx.y} * tile;
  float sums[micro][micro] = {};

  for (int k = 0; k < g.depth; k += tile_depth) {
    load_tile(x, g.x + m * g.ldx + k, g.ldx, g.rows - m, g.depth - k);
    load_tile(w, g.w + n * g.ldw + k, g.ldw, g.columns - n, tile_depth);
    __syncthreads();  // both tiles are complete
#pragma unroll
    for (int i = 0; i < tile_depth; i += 4) {
      float a[micro][4], b[micro][4];
#pragma unroll
      for (int r = 0; r < micro; ++r) load<true>(a[r], x + (down + r * side) * row_floats + i, 4);
#pragma unroll
      for (int c = 0; c < micro; ++c) load<true>(b[c], w + (across + c * side) * row_floats + i, 4);
#pragma unroll
      for (int r = 0; r < micro; ++r) {
#pragma unroll
        for (int c = 0; c < micro; ++c) {
#pragma unroll
          for (int e = 0; e < 4; ++e) sums[r][c] = fmaf(a[r][e], b[c][e], sums[r][c]);
        }
      }
    }
    __syncthreads();  // nobody reads the tiles any more
  }

#pragma unroll
  for (int r = 0; r < micro; ++r) {
#pragma unroll
    for (int c = 0; c < micro; ++c) g.store(m + down + r * side, n + across + c * side, sums[r][c]);
  }
}

void gemm_tiled(void* y, const GemmShape& g, const float* bias, Stream stream) {
  constexpr std::size_t smem = std::size_t{2} * tile * row_floats * sizeof(float);
  visit_half(g.type, [&]<class T>(T) {
    launch_gemm_step<T>("gemm_tiled", gemm_tiled_kernel<T>, tile, tile, threads, smem, y, g, bias, stream);
  });
}

}  // namespace ptq::cuda

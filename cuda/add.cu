// Residual sum
//   formula   x += y
//   shapes    x, y (T, D), taken as one row of n elements
//   maps      thread <-> chunk of 16 bytes
//   cost      n flops; reads x and y, writes x: memory-bound
//   twin      host/cpu/layers.cpp     test  tests/test_ops_layers.cpp     chain  1
#include "cuda/chunk.cuh"
#include "cuda/launch.cuh"
#include "cuda/layers.h"
#include "cuda/types.h"

namespace ptq::cuda {

namespace {

constexpr int threads = 256;  // 8 warps: 8 blocks fill an SM, each thread with two loads in flight

}  // namespace

template <class T, bool vector>
__global__ void __launch_bounds__(threads) add_kernel(T* x,        // (n)
                                                      const T* y,  // (n), may be x
                                                      std::int64_t n) {
  const std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * threads + static_cast<int>(threadIdx.x)) * chunk<T>;
  if (i >= n) return;
  float sum[chunk<T>], more[chunk<T>];
  load_any<vector>(sum, x + i, n - i);
  load_any<vector>(more, y + i, n - i);
#pragma unroll
  for (int e = 0; e < chunk<T>; ++e) sum[e] += more[e];
  store_any<vector>(x + i, sum, n - i);
}

void add(void* x, const void* y, DType dtype, std::int64_t n, Stream stream) {
  visit_float(dtype, [&]<class T>(T) {
    const bool vector = fits_vectors(0, {x, y});
    launch("add", vector ? add_kernel<T, true> : add_kernel<T, false>,
           {.grid = static_cast<unsigned>(tiles(n, threads * chunk<T>)),
            .block = threads,
            .stream = stream,
            .flops = static_cast<double>(n),
            .bytes = 3.0 * sizeof(T) * static_cast<double>(n)},
           static_cast<T*>(x), static_cast<const T*>(y), n);
  });
}

}  // namespace ptq::cuda

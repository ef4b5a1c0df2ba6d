// Totals of whole tensors, a piece a block; the host adds the pieces in order
//   formula   squared_difference: sum (a - b)^2, the difference in fp32, its square and the sum in f64
//             count_nonfinite: number of NaNs and infinities
//   shapes    a, b, x (n)   totals (ceil(n / 16384))
//   maps      block <-> piece of 16384 elements, thread <-> chunks of 16 bytes, 256 apart; then a tree
//   cost      3 n flops (2 of f64); reads everything once: memory-bound
//   twin      host/cpu/statistics.cpp, layers.cpp     test  tests/test_ops_statistics.cpp, test_ops_layers.cpp
//   chain     64 + log2 32 + 8, then the pieces
#include "cuda/block.cuh"
#include "cuda/chunk.cuh"
#include "cuda/launch.cuh"
#include "cuda/statistics.h"
#include "cuda/types.h"

#include <cmath>

namespace ptq::cuda {

namespace {

constexpr int threads = 256;  // 8 warps: 8 blocks fill an SM
constexpr int piece = static_cast<int>(total_piece);
static_assert(piece % (threads * chunk<bf16>) == 0 && piece % (threads * chunk<float>) == 0,
              "every thread has the same number of chunks of a whole piece");

}  // namespace

// f(first element) for each chunk of this thread among n elements. Of a whole piece, four chunks are loaded at once.
template <bool whole, class T, class F>
__device__ inline void each_chunk(int n, F&& f) {
  const int first = static_cast<int>(threadIdx.x) * chunk<T>;
  constexpr int step = threads * chunk<T>;
  if constexpr (whole) {
#pragma unroll 4
    for (int k = 0; k < piece / step; ++k) f(first + k * step);
  } else {
#pragma unroll 1
    for (int i = first; i < n; i += step) f(i);
  }
}

template <bool vector, class T>
__device__ inline double squared_difference_of(const T* a, const T* b, int n) {
  double sum = 0.0;
  each_chunk<vector, T>(n, [&](int i) {
    float x[chunk<T>], y[chunk<T>];
    load<vector>(x, a + i, n - i);
    load<vector>(y, b + i, n - i);
#pragma unroll
    for (int e = 0; e < chunk<T>; ++e) {
      const double d = x[e] - y[e];
      sum = fma(d, d, sum);
    }
  });
  return sum;
}

template <bool vector, class T>
__device__ inline std::int32_t nonfinite_of(const T* x, int n) {
  std::int32_t count = 0;
  each_chunk<vector, T>(n, [&](int i) {
    constexpr unsigned exponent = 0x7f800000u;
    float v[chunk<T>];
    load<vector>(v, x + i, n - i);
#pragma unroll
    for (int e = 0; e < chunk<T>; ++e) count += (__float_as_uint(v[e]) & exponent) == exponent ? 1 : 0;
  });
  return count;
}

template <class T, bool vector>
__global__ void __launch_bounds__(threads) squared_difference_kernel(double* __restrict__ totals,  // (pieces)
                                                                     const T* __restrict__ a,      // (n)
                                                                     const T* __restrict__ b,      // (n)
                                                                     std::int64_t n) {
  const std::int64_t begin = static_cast<std::int64_t>(blockIdx.x) * piece;
  const int count = static_cast<int>(std::min<std::int64_t>(piece, n - begin));
  const double sum = vector && count == piece ? squared_difference_of<vector>(a + begin, b + begin, count)
                                              : squared_difference_of<false>(a + begin, b + begin, count);
  const double total = block_sum(sum, dynamic_smem<double>());
  if (threadIdx.x == 0) totals[blockIdx.x] = total;
}

template <class T, bool vector>
__global__ void __launch_bounds__(threads) count_nonfinite_kernel(std::int32_t* __restrict__ totals,  // (pieces)
                                                                  const T* __restrict__ x,            // (n)
                                                                  std::int64_t n) {
  const std::int64_t begin = static_cast<std::int64_t>(blockIdx.x) * piece;
  const int count = static_cast<int>(std::min<std::int64_t>(piece, n - begin));
  const std::int32_t sum =
      vector && count == piece ? nonfinite_of<vector>(x + begin, count) : nonfinite_of<false>(x + begin, count);
  const std::int32_t total = block_sum(sum, dynamic_smem<std::int32_t>());
  if (threadIdx.x == 0) totals[blockIdx.x] = total;
}

void squared_difference(double* totals, const void* a, const void* b, DType dtype, std::int64_t n, Stream stream) {
  visit_float(dtype, [&]<class T>(T) {
    const bool vector = fits_vectors(0, {a, b});
    launch("squared_difference", vector ? squared_difference_kernel<T, true> : squared_difference_kernel<T, false>,
           {.grid = static_cast<unsigned>(tiles(n, piece)),
            .block = threads,
            .smem = warp_lanes * sizeof(double),
            .stream = stream,
            .flops = 3.0 * static_cast<double>(n),
            .bytes = 2.0 * sizeof(T) * static_cast<double>(n)},
           totals, static_cast<const T*>(a), static_cast<const T*>(b), n);
  });
}

void count_nonfinite(std::int32_t* totals, const void* x, DType dtype, std::int64_t n, Stream stream) {
  visit_float(dtype, [&]<class T>(T) {
    const bool vector = fits_vectors(0, {x});
    launch("count_nonfinite", vector ? count_nonfinite_kernel<T, true> : count_nonfinite_kernel<T, false>,
           {.grid = static_cast<unsigned>(tiles(n, piece)),
            .block = threads,
            .smem = warp_lanes * sizeof(std::int32_t),
            .stream = stream,
            .bytes = 1.0 * sizeof(T) * static_cast<double>(n)},
           totals, static_cast<const T*>(x), n);
  });
}

}  // namespace ptq::cuda

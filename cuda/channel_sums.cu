// Moments and extremes of channels
//   formula   moments[m,i] += sum_t x[t,i], |x[t,i]|, x[t,i]^2, x[t,i]^3, x[t,i]^4; extremes[0,i] = min, [1,i] = max
//   shapes    x (T, I)   moments (5, I) f64   extremes (2, I) f32
//   maps      block <-> 32 columns; lane <-> column; warp 0 adds x and |x| and compares, warp 1 adds the powers
//   cost      8 T I flops of f64; reads x once. A channel's rows are added one after the other, so that sums of parts
//             are those of the whole, bit by bit: bound by memory where there are many channels and f64 units, else by
//             the chain of additions, which two warps share; rows come ahead of them by cp.async
//   twin      host/cpu/statistics.cpp     test  tests/test_ops_statistics.cpp     chain  T
#include "cuda/block.cuh"
#include "cuda/chunk.cuh"
#include "cuda/launch.cuh"
#include "cuda/statistics.h"
#include "cuda/types.h"

#include <cmath>

namespace ptq::cuda {

namespace {

constexpr int columns = warp_lanes;  // of a block
constexpr int threads = 2 * warp_lanes;
constexpr int stages = 4;  // three under way: 24 KiB, enough for the memory's latency at a block per SM
constexpr int stage_bytes = 8 * 1024;
static_assert(stages * stage_bytes <= smem_without_asking, "five blocks of this size fit an SM");

template <class T>
constexpr int stage_rows = stage_bytes / static_cast<int>(columns * sizeof(T));

}  // namespace

// What warp 0 keeps of a channel. NaN is no extreme.
struct FirstMoments {
  double sum, absolute;
  float smallest, largest;

  __device__ void add(float x) {
    const double v = x;
    sum += v;
    absolute += fabs(v);
    smallest = x < smallest ? x : smallest;
    largest = x > largest ? x : largest;
  }
};

// What warp 1 keeps.
struct HigherMoments {
  double second, third, fourth;

  __device__ void add(float x) {
    const double v = x, square = v * v;  // exact
    second += square;
    third = fma(square, v, third);
    fourth = fma(square, square, fourth);
  }
};

// Starts copying stage `s` of the columns from `first` on into its slot.
template <bool vector, class T>
__device__ inline void fetch(T* slots, const T* x, std::int64_t s, std::int64_t first, std::int64_t rows,
                             std::int64_t width) {
  constexpr int per_row = columns / chunk<T>;
  T* slot = slots + s % stages * (stage_rows<T> * columns);
#pragma unroll
  for (int k = static_cast<int>(threadIdx.x); k < stage_rows<T> * per_row; k += threads) {
    const std::int64_t row = s * stage_rows<T> + k / per_row, column = first + k % per_row * chunk<T>;
    if (row >= rows || column >= width) continue;
    T* to = slot + k * chunk<T>;
    const T* from = x + row * width + column;
    if constexpr (vector) {
      cp_async_16(to, from);
    } else {
#pragma unroll
      for (int e = 0; e < chunk<T>; ++e) {
        if (column + e < width) to[e] = from[e];
      }
    }
  }
  cp_async_commit();
}

template <class T, bool vector>
__global__ void __launch_bounds__(threads) channel_sums_kernel(double* __restrict__ moments,  // (5, I)
                                                               float* __restrict__ extremes,  // (2, I)
                                                               const T* __restrict__ x,       // (T, I)
                                                               std::int64_t rows,             // T
                                                               std::int64_t width) {          // I
  T* slots = dynamic_smem<T>();
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * columns, column = first + lane_index();
  const bool exists = column < width;
  moments += column;
  extremes += column;
  FirstMoments low{};
  HigherMoments high{};
  if (exists && warp_index() == 0) low = {moments[0], moments[width], extremes[0], extremes[width]};
  if (exists && warp_index() == 1) high = {moments[2 * width], moments[3 * width], moments[4 * width]};

  for (int s = 0; s < stages - 1; ++s) fetch<vector>(slots, x, s, first, rows, width);
  for (std::int64_t s = 0; s * stage_rows<T> < rows; ++s) {
    cp_async_wait<stages - 2>();
    __syncthreads();  // stage s is there for all; the slot that is filled next has been read by all
    fetch<vector>(slots, x, s + stages - 1, first, rows, width);
    const T* at = slots + s % stages * (stage_rows<T> * columns) + lane_index();
    const int n = static_cast<int>(std::min<std::int64_t>(stage_rows<T>, rows - s * stage_rows<T>));
    if (warp_index() == 0) {
#pragma unroll 8
      for (int r = 0; r < n; ++r) low.add(as_float(at[r * columns]));
    } else {
#pragma unroll 8
      for (int r = 0; r < n; ++r) high.add(as_float(at[r * columns]));
    }
  }

  if (exists && warp_index() == 0) {
    moments[0] = low.sum;
    moments[width] = low.absolute;
    extremes[0] = low.smallest;
    extremes[width] = low.largest;
  }
  if (exists && warp_index() == 1) {
    moments[2 * width] = high.second;
    moments[3 * width] = high.third;
    moments[4 * width] = high.fourth;
  }
}

void channel_sums(double* moments, float* extremes, const void* x, DType dtype, std::int64_t rows, std::int64_t width,
                  Stream stream) {
  visit_float(dtype, [&]<class T>(T) {
    const bool vector = fits_vectors(width * static_cast<int>(sizeof(T)), {x});
    const double n = static_cast<double>(rows) * static_cast<double>(width);
    launch("channel_sums", vector ? channel_sums_kernel<T, true> : channel_sums_kernel<T, false>,
           {.grid = static_cast<unsigned>(tiles(width, columns)),
            .block = threads,
            .smem = stages * stage_bytes,
            .stream = stream,
            .flops = 8.0 * n,
            .bytes = sizeof(T) * n},
           moments, extremes, static_cast<const T*>(x), rows, width);
  });
}

}  // namespace ptq::cuda

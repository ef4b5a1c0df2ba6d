// Histogram with exact counts
//   formula   counts[s] += |{i : begin(s) <= x[i] < begin(s + 1)}|, slots s = 0 .. B + 1, begin(0) = -inf,
//             begin(1 + b) = lo + (hi - lo) b / B, begin(B + 1) = hi; NaN counts nowhere
//   shapes    x (n)   counts (B + 2) i64
//   maps      blocks <-> pieces of x in turn, thread <-> chunk of 16 bytes; counts and edges of a block in shared
//             memory while they fit, else counts in global memory and edges computed where needed
//   cost      a guess, two comparisons and an atomic increment an element; reads x once: bound by memory, or by the
//             shared memory where elements spread over many bins
//   twin      host/cpu/statistics.cpp     test  tests/test_ops_statistics.cpp     chain  none: integers
#include "cuda/block.cuh"
#include "cuda/chunk.cuh"
#include "cuda/launch.cuh"
#include "cuda/statistics.h"
#include "cuda/types.h"

#include <algorithm>
#include <cmath>

namespace ptq::cuda {

namespace {

constexpr int threads = 256;
// Several a multiprocessor on any GPU; few enough that adding up the blocks' counts costs little. A block's counts have
// 32 bits: enough for tensors of 2^42 elements.
constexpr std::int64_t most_blocks = 1024;
constexpr std::int64_t least_chunks = 8;  // of a thread, so that filling the table of edges pays

using Count = unsigned long long;  // what CUDA's atomics know of 64 bits

}  // namespace

struct Bins {
  double lo, hi;
  float origin, scale;  // of the guess
  int count;            // B

  // The smallest float that is not below the edge at which slot s begins: x >= edge in f64 and x >= begin(s) in fp32
  // are the same.
  __device__ float begin(int s) const {
    if (s == 0) return -INFINITY;
    const double edge = s > count ? hi : lo + (hi - lo) * static_cast<double>(s - 1) / static_cast<double>(count);
    const auto nearest = static_cast<float>(edge);
    return nearest < edge ? nextafterf(nearest, INFINITY) : nearest;
  }

  // Slot of x, not NaN. The guess is nearly always right; the edges decide.
  template <class Begin>
  __device__ int slot(float x, Begin&& begin_of) const {
    const float guess = fminf(fmaxf((x - origin) * scale + 1.0f, 0.0f), static_cast<float>(count + 1));
    int s = std::min(static_cast<int>(guess), count + 1);
    while (x < begin_of(s)) --s;
    while (s <= count && x >= begin_of(s + 1)) ++s;
    return s;
  }
};

// f(element) for the n of x, distributed over all threads of the grid.
template <bool vector, class T, class F>
__device__ inline void each_element(const T* x, std::int64_t n, F&& f) {
  const auto step = static_cast<std::int64_t>(gridDim.x) * threads * chunk<T>;
  std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * threads + static_cast<int>(threadIdx.x)) * chunk<T>;
  for (; i < n; i += step) {
    float v[chunk<T>];
    load_any<vector>(v, x + i, n - i);
#pragma unroll
    for (int e = 0; e < chunk<T>; ++e) {
      if (e < n - i && v[e] == v[e]) f(v[e]);
    }
  }
}

template <class T, bool vector>
__global__ void __launch_bounds__(threads) histogram_kernel(std::int64_t* __restrict__ counts,  // (B + 2)
                                                            const T* __restrict__ x,            // (n)
                                                            std::int64_t n, Bins bins) {
  const int slots = bins.count + 2, thread = static_cast<int>(threadIdx.x);
  auto* edges = dynamic_smem<float>();                      // (B + 2)
  auto* here = reinterpret_cast<unsigned*>(edges + slots);  // (B + 2) of this block
  for (int s = thread; s < slots; s += threads) {
    edges[s] = bins.begin(s);
    here[s] = 0;
  }
  __syncthreads();  // edges and zeros are complete
  each_element<vector>(x, n, [&](float v) { atomicAdd(&here[bins.slot(v, [&](int s) { return edges[s]; })], 1u); });
  __syncthreads();  // the block has counted everything
  for (int s = thread; s < slots; s += threads) {
    if (here[s] > 0) atomicAdd(reinterpret_cast<Count*>(&counts[s]), static_cast<Count>(here[s]));
  }
}

// For more bins than shared memory holds.
template <class T, bool vector>
__global__ void __launch_bounds__(threads) large_histogram_kernel(std::int64_t* __restrict__ counts,  // (B + 2)
                                                                  const T* __restrict__ x,            // (n)
                                                                  std::int64_t n, Bins bins) {
  each_element<vector>(x, n, [&](float v) {
    atomicAdd(reinterpret_cast<Count*>(&counts[bins.slot(v, [&](int s) { return bins.begin(s); })]), Count{1});
  });
}

void histogram(std::int64_t* counts, const void* x, DType dtype, std::int64_t n, std::int64_t bins, double lo,
               double hi, Stream stream) {
  const Bins spec{lo, hi, static_cast<float>(lo), static_cast<float>(static_cast<double>(bins) / (hi - lo)),
                  static_cast<int>(bins)};
  visit_float(dtype, [&]<class T>(T) {
    const bool vector = fits_vectors(0, {x});
    const std::int64_t blocks = std::min(tiles(n, threads * chunk<T> * least_chunks), most_blocks);
    LaunchSpec shape{.grid = static_cast<unsigned>(blocks),
                     .block = threads,
                     .stream = stream,
                     .bytes = 1.0 * sizeof(T) * static_cast<double>(n)};
    const std::size_t smem = static_cast<std::size_t>(bins + 2) * (sizeof(float) + sizeof(unsigned));
    if (smem <= smem_without_asking) {
      shape.smem = smem;
      launch("histogram", vector ? histogram_kernel<T, true> : histogram_kernel<T, false>, shape, counts,
             static_cast<const T*>(x), n, spec);
    } else {
      launch("large_histogram", vector ? large_histogram_kernel<T, true> : large_histogram_kernel<T, false>, shape,
             counts, static_cast<const T*>(x), n, spec);
    }
  });
}

}  // namespace ptq::cuda

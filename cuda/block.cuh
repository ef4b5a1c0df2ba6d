// What several kernels do within a warp or a block. Sums are trees of fixed shape: the same bits on every run.
#pragma once

#include "cuda/launch.cuh"

namespace ptq::cuda {

constexpr int warp_lanes = 32;
constexpr unsigned all_lanes = 0xffffffffu;

__device__ inline int lane_index() { return static_cast<int>(threadIdx.x) % warp_lanes; }
__device__ inline int warp_index() { return static_cast<int>(threadIdx.x) / warp_lanes; }

// op over the 32 lanes, in every lane: five exchanges.
template <class T, class Op>
__device__ T warp_reduce(T x, Op op) {
#pragma unroll
  for (int step = warp_lanes / 2; step > 0; step /= 2) x = op(x, __shfl_xor_sync(all_lanes, x, step));
  return x;
}

template <class T>
__device__ T warp_sum(T x) {
  return warp_reduce(x, [](T a, T b) { return a + b; });
}
// NaN wins.
__device__ inline float warp_max(float x) {
  return warp_reduce(x, [](float a, float b) { return a > b || a != a ? a : b; });
}
__device__ inline float warp_min(float x) {
  return warp_reduce(x, [](float a, float b) { return a < b || a != a ? a : b; });
}

// op over all threads of a one-dimensional block of whole warps, in every thread. scratch [32] in shared memory; may be
// used again at once.
template <class T, class Op>
__device__ T block_reduce(T x, T* scratch, Op op) {
  x = warp_reduce(x, op);
  const int warps = static_cast<int>(blockDim.x) / warp_lanes;
  if (lane_index() == 0) scratch[warp_index()] = x;
  __syncthreads();  // scratch is complete
  T total = scratch[0];
  for (int w = 1; w < warps; ++w) total = op(total, scratch[w]);
  __syncthreads();  // scratch is free again
  return total;
}

template <class T>
__device__ T block_sum(T x, T* scratch) {
  return block_reduce(x, scratch, [](T a, T b) { return a + b; });
}
__device__ inline float block_max(float x, float* scratch) {  // NaN wins
  return block_reduce(x, scratch, [](float a, float b) { return a > b || a != a ? a : b; });
}

}  // namespace ptq::cuda

// Stand-in for NVIDIA's <cuda_runtime.h> when kernels run on the CPU (docs/simt.md): qualifiers, built-in variables,
// the intrinsics that this project's kernels use, and the runtime calls of its backend. What is not here is not used;
// add it when a kernel needs it, with the meaning of the CUDA C++ Programming Guide.
#pragma once

#include "cuda/simt/executor.h"
#include "cuda/simt/streams.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <source_location>

// --- qualifiers: __shared__ is missing on purpose, shared memory comes from dynamic_smem (launch.cuh) ----------------
#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)

// --- vector types ----------------------------------------------------------------------------------------------------
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) double2 {
  double x, y;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

// --- built-in variables: the executor sets them before a thread runs, so that a debugger shows them ------------------
using uint3 = simt::Index;
using dim3 = simt::Extent;
inline thread_local constinit uint3 threadIdx{}, blockIdx{};
inline thread_local constinit dim3 blockDim{}, gridDim{};
inline constexpr int warpSize = 32;

// --- barriers and warp intrinsics (Programming Guide, "Synchronization Functions", "Warp Shuffle Functions") ---------
inline void __syncthreads(std::source_location at = std::source_location::current()) { simt::block_barrier(at); }
inline int __syncthreads_or(int predicate, std::source_location at = std::source_location::current()) {
  return simt::block_barrier_or(predicate != 0, at) ? 1 : 0;
}
inline void __syncwarp(unsigned mask = 0xffffffffu, std::source_location at = std::source_location::current()) {
  simt::warp_barrier(mask, at);
}

// Shuffles are exchanges of 32 or 64 bits; `source` is the lane read, by the rules of PTX shfl (only the five low bits
// of a lane number or distance count).
namespace simt {
template <class T, class Source>
T shuffle_from(const char* name, unsigned mask, T value, int width, const std::source_location& at, Source source) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8), "CUDA shuffles int, float, double ...");
  expect_width(name, width);
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  const int me = lane(), first = me & -width;
  bits = shuffle(name, mask, bits, source(me, first), at);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}
}  // namespace simt
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32,
              std::source_location at = std::source_location::current()) {
  return simt::shuffle_from("__shfl_sync", mask, value, width, at,
                            [=](int, int first) { return first | (source & (width - 1)); });
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32,
                  std::source_location at = std::source_location::current()) {
  return simt::shuffle_from("__shfl_xor_sync", mask, value, width, at, [=](int me, int first) {
    const int other = me ^ (lanes & 31);
    return other < first + width ? other : me;  // earlier segments can be read, later ones not
  });
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                   std::source_location at = std::source_location::current()) {
  return simt::shuffle_from("__shfl_down_sync", mask, value, width, at, [=](int me, int first) {
    const int other = me + static_cast<int>(delta & 31);
    return other < first + width ? other : me;
  });
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                 std::source_location at = std::source_location::current()) {
  return simt::shuffle_from("__shfl_up_sync", mask, value, width, at, [=](int me, int first) {
    const int other = me - static_cast<int>(delta & 31);
    return other >= first ? other : me;
  });
}
inline unsigned __ballot_sync(unsigned mask, int predicate, std::source_location at = std::source_location::current()) {
  return simt::ballot("__ballot_sync", mask, predicate != 0, at);
}
inline int __any_sync(unsigned mask, int predicate, std::source_location at = std::source_location::current()) {
  return simt::ballot("__any_sync", mask, predicate != 0, at) != 0;
}
inline int __all_sync(unsigned mask, int predicate, std::source_location at = std::source_location::current()) {
  return simt::ballot("__all_sync", mask, predicate == 0, at) == 0;
}

// --- atomics: integers only, because sums of floats would depend on their order --------------------------------------
template <class T>
T atomicAdd(T* address, T value) {
  static_assert(std::is_integral_v<T>, "floating-point atomics make results depend on timing");
  return std::atomic_ref<T>(*address).fetch_add(value, std::memory_order_relaxed);
}
template <class T>
T atomicMax(T* address, T value) {
  static_assert(std::is_integral_v<T>);
  std::atomic_ref<T> at(*address);
  T old = at.load(std::memory_order_relaxed);
  while (old < value && !at.compare_exchange_weak(old, value, std::memory_order_relaxed)) {
  }
  return old;
}

// --- bits and arithmetic ---------------------------------------------------------------------------------------------
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline int __float2int_rn(float x) {  // NaN becomes 0, everything else the nearest int that there is
  if (x != x) return 0;
  return static_cast<int>(std::clamp(std::nearbyint(static_cast<double>(x)), -2147483648.0, 2147483647.0));
}
template <class T>
T __ldg(const T* address) {
  return *address;
}
template <class T>
T __ldcs(const T* address) {
  return *address;
}
using std::max;
using std::min;

// --- runtime calls (CUDA Runtime API): memory is the host's; when work happens is in streams.h -----------------------
enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoDevice = 100
};
inline constexpr unsigned cudaEventDisableTiming = 2;
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
using cudaStream_t = struct CUstream_st*;
using cudaEvent_t = struct CUevent_st*;
struct cudaDeviceProp {
  char name[256];
  std::size_t totalGlobalMem;
  int major, minor, multiProcessorCount;
  std::size_t sharedMemPerBlockOptin;
  int l2CacheSize;
};

cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaRuntimeGetVersion(int* version);
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total);
cudaError_t cudaMalloc(void** memory, std::size_t bytes);
cudaError_t cudaFree(void* memory);
cudaError_t cudaMallocHost(void** memory, std::size_t bytes);
cudaError_t cudaFreeHost(void* memory);
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream);
cudaError_t cudaMemsetAsync(void* memory, int value, std::size_t bytes, cudaStream_t stream);
cudaError_t cudaStreamCreate(cudaStream_t* stream);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaEventCreate(cudaEvent_t* event);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end);
cudaError_t cudaGetLastError();
const char* cudaGetErrorName(cudaError_t error);
const char* cudaGetErrorString(cudaError_t error);

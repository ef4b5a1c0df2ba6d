// Launching: the only <<<>>> of the project, and dynamic shared memory. One of two device files with two bodies (the
// other is ptx.cuh): under nvcc a kernel runs on the GPU, otherwise the SIMT executor runs it on the CPU.
#pragma once

#include "cuda/launch_spec.h"

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace ptq::cuda {

// Dynamic shared memory beyond 48 KiB has to be asked for (Programming Guide, "Shared Memory").
inline constexpr std::size_t smem_without_asking = 48 * 1024;

// kernel(args...) for every thread of the grid. An empty grid launches nothing.
template <class... P, class... A>
void launch(const char* name, void (*kernel)(P...), const LaunchSpec& spec, A... args) {
  if (spec.grid.x == 0 || spec.grid.y == 0 || spec.grid.z == 0) return;
#ifdef __CUDACC__
  cudaError_t error = cudaSuccess;
  if (spec.smem > smem_without_asking)
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(spec.smem));
  if (error == cudaSuccess) {
    kernel<<<spec.grid, spec.block, spec.smem, spec.stream>>>(args...);
    error = cudaGetLastError();
  }
  launched(name, spec, error);
#else
  ::simt::note_launch(name, reinterpret_cast<const void*>(kernel), spec.block, spec.smem);
  ::simt::put(spec.stream, ::simt::Work::kernel, [=] {
    ::simt::run_grid(name, spec.grid, spec.block, spec.smem, [=] { kernel(args...); });
  });
  launched(name, spec, 0);
#endif
}

// The block's dynamic shared memory, 128-byte aligned. Poisoned at the start of a block by the executor.
template <class T>
__device__ T* dynamic_smem() {
#ifdef __CUDACC__
  extern __shared__ __align__(128) unsigned char bytes[];
  return reinterpret_cast<T*>(bytes);
#else
  return reinterpret_cast<T*>(::simt::shared_memory());
#endif
}

// Number of tiles of size `tile` that cover n.
__host__ __device__ constexpr std::int64_t tiles(std::int64_t n, std::int64_t tile) { return (n + tile - 1) / tile; }

}  // namespace ptq::cuda

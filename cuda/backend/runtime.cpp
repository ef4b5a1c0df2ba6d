#include "cuda/backend/runtime.h"

#include "cuda/launch_spec.h"
#include "cuda/types.h"
#include "host/error.h"

namespace ptq::cuda {

void cuda_check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  require(error != cudaErrorMemoryAllocation, Exit::again, "out of memory, {}; {}", what, memory_levers);
  require(error != cudaErrorNoDevice, Exit::device, "no CUDA device, {}: {}; use --device cpu", what,
          cudaGetErrorString(error));
  fail(Exit::internal, "CUDA: {}: {} ({})", what, cudaGetErrorString(error), cudaGetErrorName(error));
}

double seconds_on(Stream stream, const std::function<void()>& work) {
  cudaEvent_t begin = nullptr, end = nullptr;
  cuda_check(cudaEventCreate(&begin), "creating an event");
  cuda_check(cudaEventCreate(&end), "creating an event");
  cuda_check(cudaEventRecord(begin, stream), "recording an event");
  work();
  cuda_check(cudaEventRecord(end, stream), "recording an event");
  cuda_check(cudaEventSynchronize(end), "waiting for an event");
  float milliseconds = 0.0f;
  cuda_check(cudaEventElapsedTime(&milliseconds, begin, end), "reading an event");
  cuda_check(cudaEventDestroy(begin), "destroying an event");
  cuda_check(cudaEventDestroy(end), "destroying an event");
  return milliseconds / 1e3;
}

void launched(const char* name, const LaunchSpec& spec, int error) {
  if (error == cudaSuccess) return;
  const auto code = static_cast<cudaError_t>(error);
  require(code != cudaErrorMemoryAllocation, Exit::again, "out of GPU memory, starting kernel {}; {}", name,
          memory_levers);
  fail(Exit::internal, "CUDA: kernel {} with grid ({},{},{}), block ({},{},{}), {} bytes of shared memory: {} ({})",
       name, spec.grid.x, spec.grid.y, spec.grid.z, spec.block.x, spec.block.y, spec.block.z, spec.smem,
       cudaGetErrorString(code), cudaGetErrorName(code));
}

void unexpected_dtype(DType dtype) { fail(Exit::internal, "a kernel for {} was asked for", name_of(dtype)); }

}  // namespace ptq::cuda

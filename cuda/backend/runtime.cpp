#include "cuda/backend/runtime.h"

#include "cuda/launch_spec.h"
#include "cuda/types.h"
#include "host/error.h"

namespace ptq::cuda {

void cuda_check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  require(error != cudaErrorMemoryAllocation, Exit::again,
          "out of GPU memory, {}; use a smaller --batch or --seqlen, or --device cpu", what);
  require(error != cudaErrorNoDevice, Exit::device, "no CUDA device, {}: {}; use --device cpu", what,
          cudaGetErrorString(error));
  fail(Exit::internal, "CUDA: {}: {} ({})", what, cudaGetErrorString(error), cudaGetErrorName(error));
}

void launched(const char* name, const LaunchSpec& spec, int error) {
  if (error == cudaSuccess) return;
  const auto code = static_cast<cudaError_t>(error);
  fail(code == cudaErrorMemoryAllocation ? Exit::again : Exit::internal,
       "CUDA: kernel {} with grid ({},{},{}), block ({},{},{}), {} bytes of shared memory: {} ({})", name, spec.grid.x,
       spec.grid.y, spec.grid.z, spec.block.x, spec.block.y, spec.block.z, spec.smem, cudaGetErrorString(code),
       cudaGetErrorName(code));
}

void unexpected_dtype(DType dtype) { fail(Exit::internal, "a kernel for {} was asked for", name_of(dtype)); }

}  // namespace ptq::cuda

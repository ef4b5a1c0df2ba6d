// Calls of the CUDA runtime with errors as Errors.
#pragma once

#include <cuda_runtime.h>

namespace ptq::cuda {

// Exit 75 for memory, 69 for a missing or unusable device, else 70; `what` was being done.
void cuda_check(cudaError_t error, const char* what);

}  // namespace ptq::cuda

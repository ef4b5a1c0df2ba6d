// Calls of the CUDA runtime with errors as Errors.
#pragma once

#include "cuda/stream.h"

#include <cuda_runtime.h>

#include <functional>

namespace ptq::cuda {

// What helps when memory is short.
inline constexpr const char* memory_levers =
    "use a smaller --batch-tokens or --seqlen, a larger --gpu-memory, or --device cpu";

// Exit 75 for memory, 69 for a missing or unusable device, else 70; `what` was being done.
void cuda_check(cudaError_t error, const char* what);

// Seconds between the device's reaching and its leaving what `work` puts on the stream; waits for it.
double seconds_on(Stream stream, const std::function<void()>& work);

}  // namespace ptq::cuda

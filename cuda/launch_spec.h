// The shape and cost of a launch, without device code.
#pragma once

#include "cuda/stream.h"

#include <cuda_runtime.h>

#include <cstddef>

namespace ptq::cuda {

struct LaunchSpec {
  dim3 grid = 1;
  dim3 block = 1;
  std::size_t smem = 0;  // bytes of dynamic shared memory
  Stream stream = nullptr;
  double flops = 0, bytes = 0;  // what the kernel has to do at least, for the profiler
};

// backend/runtime.cpp: throws Error with the kernel's name and shape (exit 75 for memory, else 70); records the launch.
void launched(const char* name, const LaunchSpec& spec, int error);

}  // namespace ptq::cuda

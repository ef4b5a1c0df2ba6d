#include "cuda/backend/cuda_ops.h"
#include "host/ops.h"

#include <cuda_runtime.h>
#include <fmt/format.h>

namespace ptq {

std::unique_ptr<Ops> make_cuda_ops(int device, std::size_t memory) {
  return std::make_unique<cuda::CudaOps>(cuda::DeviceOptions{device, memory, true});
}

std::vector<std::string> cuda_devices() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) return {};
  std::vector<std::string> lines;
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp p{};
    if (cudaGetDeviceProperties(&p, i) != cudaSuccess) continue;
    lines.push_back(fmt::format("{}, compute capability {}.{}, {} multiprocessors, {} MiB", p.name, p.major, p.minor,
                                p.multiProcessorCount, p.totalGlobalMem >> 20));
  }
  return lines;
}

}  // namespace ptq

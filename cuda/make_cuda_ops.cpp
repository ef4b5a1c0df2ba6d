#include "cuda/backend/cuda_ops.h"
#include "cuda/steps/ladder.h"
#include "host/error.h"
#include "host/ops.h"
#ifdef PTQ_WITH_VENDOR
#include "cuda/vendor/vendor.h"
#endif

#include <cuda_runtime.h>
#include <fmt/format.h>

namespace ptq {

std::unique_ptr<Ops> make_cuda_ops(const GpuOptions& o) {
  cuda::Launchers launchers = cuda::launchers_with(o.step);
  if (o.vendor) {
#ifdef PTQ_WITH_VENDOR
    cuda::install_vendor(launchers);
#else
    fail(Exit::usage,
         "--gemm cublas: this build is without cuBLAS and cuSOLVER; install their headers, or use --gemm own");
#endif
  }
  return std::make_unique<cuda::CudaOps>(cuda::DeviceOptions{o.device, o.memory, true}, std::move(launchers));
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

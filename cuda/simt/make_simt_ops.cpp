#include "cuda/backend/cuda_ops.h"
#include "cuda/simt/executor.h"
#include "cuda/steps/ladder.h"
#include "host/ops.h"

namespace ptq {

std::unique_ptr<Ops> make_simt_ops(int threads, const GpuOptions& o) {
  ::simt::set_workers(threads);
  return std::make_unique<simt::CudaOps>(simt::DeviceOptions{o.device, o.memory, false}, simt::launchers_with(o.step));
}

std::vector<std::string> ladder_steps() {
  std::vector<std::string> names;
  for (const simt::Rung& rung : simt::ladder()) names.emplace_back(rung.name);
  return names;
}

}  // namespace ptq

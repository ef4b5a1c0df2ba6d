#include "cuda/backend/cuda_ops.h"
#include "cuda/simt/executor.h"
#include "host/ops.h"

namespace ptq {

std::unique_ptr<Ops> make_simt_ops(int threads) {
  ::simt::set_workers(threads);
  return std::make_unique<simt::CudaOps>(simt::DeviceOptions{0, 0, false});
}

}  // namespace ptq

// The factor of the inverse Hessian.
#include "cuda/factor.h"

#include "cuda/backend/cuda_ops.h"
#include "host/op_checks.h"

namespace ptq::cuda {

bool CudaOps::factor_inverse(const Tensor& h) {
  op_checks::factor_inverse(h);
  const std::int64_t n = h.dim(0);
  const Tensor tile = empty(h.dtype(), {factor_block, factor_block});
  const Tensor solved = empty(h.dtype(), {factor_block, factor_width(n)});
  const Tensor failed = to_device(Tensor::zeros(DType::i32, {1}));
  const auto factor = [&]<class T>(T, const auto& launcher) {
    launcher(device_data<T>(h), device_data<T>(tile), device_data<T>(solved), device_data<std::int32_t>(failed), n,
             stream_);
  };
  if (h.dtype() == DType::f64)
    factor(double{}, cuda::factor_inverse<double>);
  else
    factor(float{}, launchers_.factor_inverse);
  return to_host(failed).span<std::int32_t>()[0] == 0;
}

}  // namespace ptq::cuda

// The factor of the inverse Hessian.
#include "cuda/factor.h"

#include "cuda/backend/cuda_ops.h"

namespace ptq::cuda {

bool CudaOps::factor_inverse(const Tensor& h) {
  check(h.rank() == 2 && h.dim(0) == h.dim(1), "factor_inverse: H {}", to_string(h.shape()));
  const std::int64_t n = h.dim(0);
  const Tensor tile = empty(h.dtype(), {factor_block, factor_block});
  const Tensor solved = empty(h.dtype(), {factor_block, factor_width(n)});
  const Tensor failed = to_device(Tensor::zeros(DType::i32, {1}));
  const auto factor = [&]<class T>(T) {
    cuda::factor_inverse(device_data<T>(h), device_data<T>(tile), device_data<T>(solved),
                         device_data<std::int32_t>(failed), n, stream_);
  };
  h.dtype() == DType::f64 ? factor(double{}) : factor(float{});
  return to_host(failed).span<std::int32_t>()[0] == 0;
}

}  // namespace ptq::cuda

// The Gram matrix of activations, and a linear's error from it.
#include "cuda/gram.h"

#include "cuda/backend/cuda_ops.h"
#include "host/op_checks.h"

#include <limits>

namespace ptq::cuda {

void CudaOps::gram(const Tensor& h, const Tensor& x) {
  const std::int64_t n = x.cols(), tokens = x.rows();
  op_checks::gram(h, x);
  check(tokens <= std::numeric_limits<std::int32_t>::max() / 2, "gram: {} tokens", tokens);
  launchers_.gram(device_data<float>(h), device_raw(x), x.dtype(), tokens, n, stream_);
}

double CudaOps::gram_loss(const Tensor& d, const Tensor& g) {
  const std::int64_t rows = d.rows(), n = d.cols();
  op_checks::gram_loss(d, g);
  check(rows <= std::numeric_limits<std::int32_t>::max() / 2, "gram_loss: {} rows", rows);
  const Tensor partial = empty(DType::f64, {gram_loss_partials(rows, n)});
  cuda::gram_loss(device_data<double>(partial), device_data<float>(d), device_data<float>(g), rows, n, stream_);
  const Tensor terms = to_host(partial);
  double total = 0.0;
  for (const double term : terms.span<double>()) total += term;
  return total;
}

}  // namespace ptq::cuda

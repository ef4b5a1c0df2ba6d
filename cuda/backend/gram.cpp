// The Gram matrix of activations, and a linear's error from it.
#include "cuda/gram.h"

#include "cuda/backend/cuda_ops.h"

#include <limits>

namespace ptq::cuda {

void CudaOps::gram(const Tensor& h, const Tensor& x) {
  const std::int64_t n = x.cols(), tokens = x.rows();
  check(h.dtype() == DType::f32 && h.rank() == 2 && h.dim(0) == n && h.dim(1) == n, "gram: H {} {} for X {}",
        name_of(h.dtype()), to_string(h.shape()), to_string(x.shape()));
  check(tokens <= std::numeric_limits<std::int32_t>::max() / 2, "gram: {} tokens", tokens);
  cuda::gram(device_data<float>(h), device_raw(x), x.dtype(), tokens, n, stream_);
}

double CudaOps::gram_loss(const Tensor& d, const Tensor& g) {
  const std::int64_t rows = d.rows(), n = d.cols();
  check(g.rank() == 2 && g.dim(0) == n && g.dim(1) == n, "gram_loss: D {}, G {}", to_string(d.shape()),
        to_string(g.shape()));
  check(rows <= std::numeric_limits<std::int32_t>::max() / 2, "gram_loss: {} rows", rows);
  const Tensor partial = empty(DType::f64, {gram_loss_partials(rows, n)});
  cuda::gram_loss(device_data<double>(partial), device_data<float>(d), device_data<float>(g), rows, n, stream_);
  const Tensor terms = to_host(partial);
  double total = 0.0;
  for (const double term : terms.span<double>()) total += term;
  return total;
}

}  // namespace ptq::cuda

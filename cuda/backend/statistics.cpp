// Statistics: checks, a launch, and the end of sums whose pieces the device has added.
#include "cuda/statistics.h"
#include "cuda/backend/cuda_ops.h"
#include "host/op_checks.h"

#include <cmath>
#include <numeric>

namespace ptq::cuda {

void CudaOps::channel_sums(const ChannelSums& sums, const Tensor& x) {
  const std::int64_t columns = x.cols();
  op_checks::channel_sums(sums, x);
  cuda::channel_sums(device_data<double>(sums.moments), device_data<float>(sums.extremes), device_raw(x), x.dtype(),
                     x.rows(), columns, stream_);
}

void CudaOps::histogram(const Tensor& counts, const Tensor& x, double lo, double hi) {
  const std::int64_t bins = counts.numel() - 2;
  op_checks::histogram(counts, lo, hi);
  cuda::histogram(device_data<std::int64_t>(counts), device_raw(x), x.dtype(), x.numel(), bins, lo, hi, stream_);
}

double CudaOps::squared_difference(const Tensor& a, const Tensor& b) {
  op_checks::squared_difference(a, b);
  const Tensor totals = empty(DType::f64, {total_pieces(a.numel())});
  cuda::squared_difference(device_data<double>(totals), device_raw(a), device_raw(b), a.dtype(), a.numel(), stream_);
  const Tensor host = to_host(totals);
  const auto pieces = host.span<double>();
  return std::accumulate(pieces.begin(), pieces.end(), 0.0);
}

}  // namespace ptq::cuda

// Statistics: checks, a launch, and the end of sums whose pieces the device has added.
#include "cuda/statistics.h"
#include "cuda/backend/cuda_ops.h"

#include <cmath>
#include <numeric>

namespace ptq::cuda {

void CudaOps::channel_sums(const ChannelSums& sums, const Tensor& x) {
  const std::int64_t columns = x.cols();
  check(sums.moments.dtype() == DType::f64 && sums.extremes.dtype() == DType::f32 &&
            sums.moments.shape() == Shape{5, columns} && sums.extremes.shape() == Shape{2, columns},
        "channel_sums: moments {}, extremes {} for X {}", to_string(sums.moments.shape()),
        to_string(sums.extremes.shape()), to_string(x.shape()));
  cuda::channel_sums(device_data<double>(sums.moments), device_data<float>(sums.extremes), device_raw(x), x.dtype(),
                     x.rows(), columns, stream_);
}

void CudaOps::histogram(const Tensor& counts, const Tensor& x, double lo, double hi) {
  const std::int64_t bins = counts.numel() - 2;
  check(counts.dtype() == DType::i64 && bins > 0 && bins < (1 << 30) && lo < hi && std::isfinite(hi - lo),
        "histogram: {} counts {} of [{}, {})", name_of(counts.dtype()), to_string(counts.shape()), lo, hi);
  cuda::histogram(device_data<std::int64_t>(counts), device_raw(x), x.dtype(), x.numel(), bins, lo, hi, stream_);
}

double CudaOps::squared_difference(const Tensor& a, const Tensor& b) {
  check(a.dtype() == b.dtype() && a.numel() == b.numel(), "squared_difference: {} {} and {} {}", name_of(a.dtype()),
        to_string(a.shape()), name_of(b.dtype()), to_string(b.shape()));
  const Tensor totals = empty(DType::f64, {total_pieces(a.numel())});
  cuda::squared_difference(device_data<double>(totals), device_raw(a), device_raw(b), a.dtype(), a.numel(), stream_);
  const Tensor host = to_host(totals);
  const auto pieces = host.span<double>();
  return std::accumulate(pieces.begin(), pieces.end(), 0.0);
}

}  // namespace ptq::cuda

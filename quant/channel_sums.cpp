#include "quant/channel_sums.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace ptq {

Tensor no_extremes(std::int64_t width) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  const Tensor t = Tensor::empty(DType::f32, {2, width});
  std::fill_n(t.data<float>(), width, infinity);
  std::fill_n(t.data<float>() + width, width, -infinity);
  return t;
}

ChannelSums empty_channel_sums(Ops& ops, std::int64_t width) {
  return {ops.to_device(Tensor::zeros(DType::f64, {5, width})), ops.to_device(no_extremes(width))};
}

std::vector<float> largest_magnitude(Ops& ops, const ChannelSums& sums) {
  const Tensor extremes = ops.to_host(sums.extremes);
  const auto lo = extremes.slice_rows(0, 1).span<float>(), hi = extremes.slice_rows(1, 2).span<float>();
  std::vector<float> largest(lo.size());
  for (std::size_t k = 0; k < largest.size(); ++k) largest[k] = std::max(std::fabs(lo[k]), std::fabs(hi[k]));
  return largest;
}

std::vector<float> mean_magnitude(Ops& ops, const ChannelSums& sums, std::int64_t tokens) {
  const Tensor moments = ops.to_host(sums.moments);
  const auto magnitude = moments.slice_rows(1, 2).span<double>();
  std::vector<float> mean(magnitude.size());
  std::transform(magnitude.begin(), magnitude.end(), mean.begin(),
                 [&](double sum) { return static_cast<float>(sum / static_cast<double>(tokens)); });
  return mean;
}

}  // namespace ptq

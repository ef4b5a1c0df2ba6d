#include "quant/awq_search.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace ptq {

std::vector<float> awq_scales(const ScaleStatistics& statistics, double ratio) {
  const auto& [a, w, dead] = statistics;
  check(w.empty() || w.size() == a.size(), "awq_scales: {} activations, {} weights", a.size(), w.size());
  const auto r = static_cast<float>(ratio), rest = static_cast<float>(1.0 - ratio);
  const auto left_alone = [&](std::size_t k) { return dead == DeadPolicy::rtn && a[k] == 0.0f; };
  std::vector<float> t(a.size(), 1.0f);
  float low = std::numeric_limits<float>::max(), high = 0.0f;
  for (std::size_t k = 0; k < t.size(); ++k) {
    if (left_alone(k)) continue;
    t[k] = std::pow(a[k], r);
    if (!w.empty()) t[k] /= std::pow(w[k], rest) + 1e-4f;
    t[k] = std::max(t[k], 1e-4f);
    low = std::min(low, t[k]);
    high = std::max(high, t[k]);
  }
  const float middle = std::sqrt(high * low);
  for (std::size_t k = 0; k < t.size(); ++k) {
    if (!left_alone(k)) t[k] /= middle;
    if (!std::isfinite(t[k])) t[k] = 1.0f;
  }
  return t;
}

std::vector<float> relative_magnitude(std::span<const Tensor> weights, std::int64_t group) {
  check(!weights.empty(), "relative_magnitude of no weights");
  const std::int64_t columns = weights[0].cols(), width = group == -1 ? columns : group;
  std::vector<double> sum(static_cast<std::size_t>(columns), 0.0);
  std::int64_t rows = 0;
  for (const Tensor& w : weights) rows += w.rows();
#pragma omp parallel for schedule(static)
  for (std::int64_t begin = 0; begin < columns; begin += width) {
    const std::int64_t end = std::min(begin + width, columns);
    for (const Tensor& w : weights) {
      for (std::int64_t n = 0; n < w.rows(); ++n) {
        const float* row = w.data<float>() + n * columns;
        float largest = 0.0f;
        for (std::int64_t k = begin; k < end; ++k) largest = std::max(largest, std::fabs(row[k]));
        for (std::int64_t k = begin; k < end; ++k) {
          sum[static_cast<std::size_t>(k)] += static_cast<double>(std::fabs(row[k]) / (largest + 1e-6f));
        }
      }
    }
  }
  std::vector<float> mean(sum.size());
  std::transform(sum.begin(), sum.end(), mean.begin(),
                 [&](double s) { return static_cast<float>(s / static_cast<double>(rows)); });
  return mean;
}

ScaleSearch search_scales(const ScaleStatistics& statistics,
                          const std::function<double(std::span<const float> t)>& loss, const std::string& where) {
  ScaleSearch best;
  double smallest = std::numeric_limits<double>::infinity();
  for (int i = 0; i < awq_ratios; ++i) {
    std::vector<float> t = awq_scales(statistics, awq_ratio(i));
    const double value = loss(t);
    require(std::isfinite(value), Exit::numerics, "{}: the loss of the scale search at ratio {} is {}", where,
            awq_ratio(i), value);
    best.loss.push_back(value);
    if (value < smallest) {
      smallest = value;
      best.best_ratio = awq_ratio(i);
      best.scales = std::move(t);
    }
  }
  return best;
}

}  // namespace ptq

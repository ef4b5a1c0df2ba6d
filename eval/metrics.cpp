#include "eval/metrics.h"

#include "host/error.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

namespace ptq {

Metric mean_stderr(std::span<const double> values) {
  check(!values.empty(), "mean of no values");
  const auto n = static_cast<double>(values.size());
  double sum = 0.0;
  for (double v : values) sum += v;
  const double mean = sum / n;
  double squares = 0.0;
  for (double v : values) squares += (v - mean) * (v - mean);
  const double error =
      values.size() == 1 ? std::numeric_limits<double>::quiet_NaN() : std::sqrt(squares / (n - 1.0)) / std::sqrt(n);
  return {mean, error, static_cast<std::int64_t>(values.size())};
}

nlohmann::json metric_json(const Metric& metric) { return {{"value", metric.value}, {"stderr", metric.stderr_}}; }

}  // namespace ptq

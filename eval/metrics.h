// A measured number with its uncertainty.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <span>

namespace ptq {

// Called with the units of work done and their total.
using ProgressCallback = std::function<void(std::int64_t done, std::int64_t total)>;

struct Metric {
  double value = 0.0;
  double stderr_ = 0.0;  // standard error of the value; NaN (JSON null) for a single observation
  std::int64_t n = 0;    // observations
};

// The mean and the sample standard deviation (n - 1) over sqrt(n): lm-evaluation-harness's mean_stderr.
Metric mean_stderr(std::span<const double> values);

nlohmann::json metric_json(const Metric& metric);  // {"value", "stderr"}

}  // namespace ptq

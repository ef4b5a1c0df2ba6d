// AWQ's scale search for linears that share an input (spec B.3): the grid of ratios, the scales that a ratio stands
// for, and the choice among them. What a loss is, the caller says.
#pragma once

#include "host/tensor.h"
#include "quant/scheme.h"

#include <functional>
#include <span>
#include <string>
#include <vector>

namespace ptq {

inline constexpr int awq_ratios = 20;  // 0, 0.05 .. 0.95
inline double awq_ratio(int i) { return static_cast<double>(i) / awq_ratios; }

// What scales are made of, per input channel.
struct ScaleStatistics {
  std::vector<float> a;  // mean |x|
  std::vector<float> w;  // relative_magnitude of the linears; empty: activations alone
  DeadPolicy dead = DeadPolicy::zero;
};

// t [I] > 0: max(a^r, 1e-4), or with w max(a^r / (w^(1-r) + 1e-4), 1e-4), over sqrt(max t min t). 0^0 = 1. With
// DeadPolicy::rtn channels of a == 0 get t = 1 and do not enter max and min.
std::vector<float> awq_scales(const ScaleStatistics& statistics, double ratio);

// Mean over the rows of all weights [N,I] f32 (host) of |w| / (max |w| of its group + 1e-6). AutoAWQ (spec B.3).
std::vector<float> relative_magnitude(std::span<const Tensor> weights, std::int64_t group);

struct ScaleSearch {
  double best_ratio = 0.0;
  std::vector<double> loss;   // one per ratio
  std::vector<float> scales;  // t of the best ratio
};

// The ratio with the smallest loss, the first of equals. Exit 76 if a loss is not finite; `where` names the linears.
ScaleSearch search_scales(const ScaleStatistics& statistics,
                          const std::function<double(std::span<const float> t)>& loss, const std::string& where);

}  // namespace ptq

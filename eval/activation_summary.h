// What follows from the sums of an activation study: per-channel figures, the width of the distribution, the channels
// that stand out, and how far two studies agree about them (spec G.3 F6, F7, G.4).
#pragma once

#include "eval/activations.h"

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <vector>

namespace ptq {

// [L, C] each, over `tokens` tokens; NaN without tokens.
struct ChannelProfile {
  Tensor mean;      // f64
  Tensor absmax;    // f32
  Tensor kurtosis;  // f64: fourth central moment / variance^2 (normal distribution: 3); NaN where the variance is 0
  Tensor min, max;  // f32
};

ChannelProfile profile_of(const ActivationSums& sums, std::int64_t tokens);

// Distance between the quantiles (1 - share) / 2 and (1 + share) / 2 of the distribution averaged over layers, linear
// inside a bin; from the wide histogram where the other is too narrow. Nothing if that is too narrow as well.
std::optional<double> central_width(const ActivationSums& sums, double range, double share = 0.99);

// Share of the elements outside [-range, range).
double share_outside(const ActivationSums& sums);

// The 1 % (at least one) of the C values largest in magnitude: their indices, largest first, equals in ascending order.
std::vector<std::int64_t> top_channels(std::span<const double> values);

// |a and b| / |a or b|.
double jaccard(std::span<const std::int64_t> a, std::span<const std::int64_t> b);

// {"o": {"channels", "whole": V, "without_first": V}, "down": ...}, V = {"central_99_width" (null: beyond the wide
// histogram), "share_outside", "largest_mean" and "largest_absmax": {"value", "layer", "channel"}, "top_by_mean" and
// "top_by_absmax": [channels by layer]}; V is null where there are no tokens.
nlohmann::json summary_json(const ActivationStudy& study);

// {"o": {"whole": V, "without_first": V}, ...}, V = {"by_mean", "by_absmax": {"jaccard": [one per layer], "mean"}}.
// Exit 65 if layers or channels differ.
nlohmann::json comparison_json(const ActivationStudy& a, const ActivationStudy& b);

}  // namespace ptq

#include "eval/activation_summary.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>

namespace ptq {

namespace {

using Json = nlohmann::json;

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

std::span<const double> row(const Tensor& t, std::int64_t layer) {
  return t.span<double>().subspan(static_cast<std::size_t>(layer * t.cols()), static_cast<std::size_t>(t.cols()));
}

Tensor doubles(const Tensor& floats) {
  const auto values = floats.span<float>();
  return Tensor::of(std::vector<double>(values.begin(), values.end()), floats.shape());
}

struct Largest {
  double magnitude = -1.0;
  Json place;

  void offer(double value, std::int64_t layer, std::int64_t channel) {
    if (!(std::fabs(value) > magnitude)) return;
    magnitude = std::fabs(value);
    place = {{"value", value}, {"layer", layer}, {"channel", channel}};
  }
};

Json summary_of(const ActivationSums& sums, std::int64_t tokens, double range) {
  if (tokens == 0) return nullptr;
  const ChannelProfile profile = profile_of(sums, tokens);
  const Tensor absmax = doubles(profile.absmax);
  const std::int64_t layers = profile.mean.rows(), channels = profile.mean.cols();
  Largest mean, peak;
  Json by_mean = Json::array(), by_absmax = Json::array();
  for (std::int64_t l = 0; l < layers; ++l) {
    for (std::int64_t c = 0; c < channels; ++c) {
      mean.offer(row(profile.mean, l)[static_cast<std::size_t>(c)], l, c);
      peak.offer(row(absmax, l)[static_cast<std::size_t>(c)], l, c);
    }
    by_mean.push_back(top_channels(row(profile.mean, l)));
    by_absmax.push_back(top_channels(row(absmax, l)));
  }
  const std::optional<double> width = central_width(sums, range);
  return {{"central_99_width", width ? Json(*width) : Json()},
          {"share_outside", share_outside(sums)},
          {"largest_mean", mean.place},
          {"largest_absmax", peak.place},
          {"top_by_mean", std::move(by_mean)},
          {"top_by_absmax", std::move(by_absmax)}};
}

Json overlap(const Tensor& a, const Tensor& b) {
  std::vector<double> each;
  for (std::int64_t l = 0; l < a.rows(); ++l) each.push_back(jaccard(top_channels(row(a, l)), top_channels(row(b, l))));
  const double sum = std::accumulate(each.begin(), each.end(), 0.0);
  return {{"mean", sum / static_cast<double>(each.size())}, {"jaccard", std::move(each)}};
}

Json comparison_of(const ActivationSums& a, std::int64_t tokens_a, const ActivationSums& b, std::int64_t tokens_b) {
  if (tokens_a == 0 || tokens_b == 0) return nullptr;
  const ChannelProfile x = profile_of(a, tokens_a), y = profile_of(b, tokens_b);
  return {{"by_mean", overlap(x.mean, y.mean)}, {"by_absmax", overlap(doubles(x.absmax), doubles(y.absmax))}};
}

std::optional<double> histogram_width(const Tensor& counts, double range, double share) {
  // All layers saw the same number of elements: the average of their densities is the density of their sum.
  const std::int64_t layers = counts.rows(), all = counts.cols(), bins = all - 2;
  std::vector<double> count(static_cast<std::size_t>(all));
  for (std::int64_t l = 0; l < layers; ++l) {
    for (std::int64_t b = 0; b < all; ++b) {
      count[static_cast<std::size_t>(b)] += static_cast<double>(counts.data<std::int64_t>()[l * all + b]);
    }
  }
  const double elements = std::accumulate(count.begin(), count.end(), 0.0);
  const double tail = elements * (1.0 - share) / 2.0;
  if (!(elements > 0.0) || count.front() > tail || count.back() > tail) return std::nullopt;
  const double step = 2.0 * range / static_cast<double>(bins);
  // Distance from one end of the histogram at which `tail` elements are passed.
  const auto inset = [&](double outside, const std::function<double(std::int64_t)>& bin) {
    double passed = outside;
    for (std::int64_t b = 0; b < bins; ++b) {
      if (passed + bin(b) >= tail && bin(b) > 0.0) return (static_cast<double>(b) + (tail - passed) / bin(b)) * step;
      passed += bin(b);
    }
    return 2.0 * range;
  };
  const double low = inset(count.front(), [&](std::int64_t b) { return count[static_cast<std::size_t>(b + 1)]; });
  const double high = inset(count.back(), [&](std::int64_t b) { return count[static_cast<std::size_t>(bins - b)]; });
  return 2.0 * range - low - high;
}

// Sum of all counts; counts are non-negative.
double total(std::span<const std::int64_t> counts) {
  return static_cast<double>(std::accumulate(counts.begin(), counts.end(), std::int64_t{0}));
}

}  // namespace

ChannelProfile profile_of(const ActivationSums& sums, std::int64_t tokens) {
  const std::int64_t layers = sums.moments.dim(0), channels = sums.channels();
  const Shape shape{layers, channels};
  const auto floats = [&] { return Tensor::empty(DType::f32, shape); };
  ChannelProfile p{Tensor::empty(DType::f64, shape), floats(), Tensor::empty(DType::f64, shape), floats(), floats()};
  const auto n = static_cast<double>(tokens);
  for (std::int64_t l = 0; l < layers; ++l) {
    const double* moments = sums.moments.data<double>() + l * 5 * channels;
    const float* extremes = sums.extremes.data<float>() + l * 2 * channels;
    for (std::int64_t c = 0; c < channels; ++c) {
      const auto raw = [&](int m) { return moments[m * channels + c] / n; };
      const std::int64_t at = l * channels + c;
      const double mean = raw(0), square = mean * mean, variance = raw(2) - square;
      const double fourth = raw(4) - 4.0 * mean * raw(3) + 6.0 * square * raw(2) - 3.0 * square * square;
      const float low = extremes[c], high = extremes[channels + c];
      p.mean.data<double>()[at] = mean;
      // What is left of a constant's variance is the rounding of the two terms.
      p.kurtosis.data<double>()[at] = variance > 1e-14 * raw(2) ? fourth / (variance * variance) : nan;
      p.min.data<float>()[at] = low;
      p.max.data<float>()[at] = high;
      p.absmax.data<float>()[at] = tokens > 0 ? std::max(std::fabs(low), std::fabs(high)) : static_cast<float>(nan);
    }
  }
  return p;
}

std::optional<double> central_width(const ActivationSums& sums, double range, double share) {
  const std::optional<double> width = histogram_width(sums.counts, range, share);
  return width ? width : histogram_width(sums.wide, wide_factor * range, share);
}

double share_outside(const ActivationSums& sums) {
  const std::int64_t layers = sums.counts.rows(), all = sums.counts.cols();
  double outside = 0.0;
  for (std::int64_t l = 0; l < layers; ++l) {
    const auto* counts = sums.counts.data<std::int64_t>() + l * all;
    outside += static_cast<double>(counts[0]) + static_cast<double>(counts[all - 1]);
  }
  return outside / total(sums.counts.span<std::int64_t>());
}

std::vector<std::int64_t> top_channels(std::span<const double> values) {
  const std::size_t count = std::min(values.size(), std::max<std::size_t>(1, (values.size() + 99) / 100));
  const auto magnitude = [&](std::int64_t c) {  // a number for every input, so that the order is one
    const double m = std::fabs(values[static_cast<std::size_t>(c)]);
    return std::isnan(m) ? -1.0 : m;
  };
  std::vector<std::int64_t> order(values.size());
  std::iota(order.begin(), order.end(), std::int64_t{0});
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count), order.end(),
                    [&](std::int64_t a, std::int64_t b) {
                      return magnitude(a) != magnitude(b) ? magnitude(a) > magnitude(b) : a < b;
                    });
  order.resize(count);
  return order;
}

double jaccard(std::span<const std::int64_t> a, std::span<const std::int64_t> b) {
  const auto both =
      std::count_if(a.begin(), a.end(), [&](std::int64_t c) { return std::find(b.begin(), b.end(), c) != b.end(); });
  const auto any = static_cast<std::ptrdiff_t>(a.size() + b.size()) - both;
  return any == 0 ? 1.0 : static_cast<double>(both) / static_cast<double>(any);
}

Json summary_json(const ActivationStudy& study) {
  Json json;
  for (std::size_t m = 0; m < study.modules.size(); ++m) {
    const ModuleActivations& module = study.modules[m];
    json[study_name(studied_roles[m])] = {
        {"channels", module.first.channels()},
        {"whole", summary_of(module.whole(), study.tokens, study.spec.range)},
        {"without_first", summary_of(module.rest, study.tokens - study.windows, study.spec.range)}};
  }
  return json;
}

Json comparison_json(const ActivationStudy& a, const ActivationStudy& b) {
  Json json;
  for (std::size_t m = 0; m < a.modules.size(); ++m) {
    const ModuleActivations &x = a.modules[m], &y = b.modules[m];
    require(x.first.extremes.shape() == y.first.extremes.shape(), Exit::data,
            "studies cannot be compared: {} has {} layers of {} channels in one and {} of {} in the other",
            study_name(studied_roles[m]), a.layers, x.first.channels(), b.layers, y.first.channels());
    json[study_name(studied_roles[m])] = {
        {"whole", comparison_of(x.whole(), a.tokens, y.whole(), b.tokens)},
        {"without_first", comparison_of(x.rest, a.tokens - a.windows, y.rest, b.tokens - b.windows)}};
  }
  return json;
}

}  // namespace ptq

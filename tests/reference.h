// Double-precision references of the kernels, written as the formulas read. Each returns value and error bound
//     2 (sqrt(n) + 2) u S + u_out |value|
// with S the sum of the magnitudes that were added, n the kernel's longest chain of additions (serial: n terms), u
// the unit roundoff of its accumulator (2^-24) and u_out that of the output type.
#pragma once

#include "compare.h"
#include "host/ops.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace ptq::testing {

constexpr double unit = 0x1p-24;

inline double output_unit(DType t) {
  switch (t) {
    case DType::bf16:
      return 0x1p-8;
    case DType::f16:
      return 0x1p-11;
    default:
      return 0x1p-24;
  }
}

// Collects elements with their bounds.
class Collector {
 public:
  Collector(Shape shape, DType output) : output_(output) { e_.shape = std::move(shape); }

  // `inexact`: errors that are not those of the final sum, absolute.
  void add(double value, double magnitude, double chain, double inexact = 0.0) {
    e_.value.push_back(value);
    // Below the smallest normal half, rounding is absolute: 2^-25.
    const double tiny = output_ == DType::f16 ? 0x1p-25 : 0x1p-149;
    e_.bound.push_back(2.0 * (std::sqrt(chain) + 2.0) * unit * magnitude + inexact +
                       output_unit(output_) * std::fabs(value) + tiny);
  }
  Expected take() { return std::move(e_); }

 private:
  DType output_;
  Expected e_;
};

inline Expected exact(const Tensor& t) {
  Expected e{t.shape(), {}, std::vector<double>(static_cast<std::size_t>(t.numel()), 0.0)};
  for (std::int64_t i = 0; i < t.numel(); ++i) e.value.push_back(element(t, i));
  return e;
}

// y = x W^T + b, fp32 sums of length I.
inline Expected linear(const Tensor& x, const Tensor& w, const Tensor& b, DType output) {
  const std::int64_t rows = x.rows(), n = w.rows(), width = x.cols();
  Collector y({rows, n}, output);
  for (std::int64_t t = 0; t < rows; ++t) {
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = b ? element(b, j) : 0.0, magnitude = std::fabs(sum);
      for (std::int64_t k = 0; k < width; ++k) {
        const double p = element(x, t * width + k) * element(w, j * width + k);
        sum += p;
        magnitude += std::fabs(p);
      }
      y.add(sum, magnitude, static_cast<double>(width));
    }
  }
  return y.take();
}

// X^T X + H, upper triangle; the rest is not looked at (infinite bound).
inline Expected gram(const Tensor& h, const Tensor& x) {
  const std::int64_t n = x.cols(), tokens = x.rows();
  Collector y({n, n}, DType::f32);
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = element(h, i * n + j), magnitude = std::fabs(sum);
      for (std::int64_t t = 0; t < tokens; ++t) {
        const double p = element(x, t * n + i) * element(x, t * n + j);
        sum += p;
        magnitude += std::fabs(p);
      }
      y.add(sum, magnitude, static_cast<double>(tokens), j < i ? INFINITY : 0.0);
    }
  }
  return y.take();
}

inline double soft_cap(double x, double cap) { return cap > 0.0 ? cap * std::tanh(x / cap) : x; }

// log softmax(cap(scale x W^T))[token] per target. The logit's error is that of its product; a log-sum-exp moves by no
// more than the largest error of a logit, plus the relative error of the sum of exponentials (a few ulp).
inline std::vector<std::pair<double, double>> token_logprobs(const Tensor& x, const std::vector<Target>& targets,
                                                             const Tensor& w, const LogitSpec& spec) {
  const std::int64_t vocab = w.rows(), d = x.cols();
  std::vector<std::pair<double, double>> result;
  for (const Target& t : targets) {
    std::vector<double> logit(static_cast<std::size_t>(vocab));
    double error = 0.0, top = -INFINITY;
    for (std::int64_t v = 0; v < vocab; ++v) {
      double sum = 0.0, magnitude = 0.0;
      for (std::int64_t k = 0; k < d; ++k) {
        const double p = element(x, t.row * d + k) * element(w, v * d + k);
        sum += p;
        magnitude += std::fabs(p);
      }
      const double value = soft_cap(spec.scale * sum, spec.soft_cap);
      logit[static_cast<std::size_t>(v)] = value;
      top = std::max(top, value);
      error = std::max(error, 2.0 * (std::sqrt(static_cast<double>(d)) + 2.0) * unit * magnitude * spec.scale +
                                  4.0 * unit * std::max(std::fabs(value), double{spec.soft_cap}));
    }
    double sum = 0.0;
    for (double l : logit) sum += std::exp(l - top);
    const double value = logit[static_cast<std::size_t>(t.token)] - top - std::log(sum);
    result.emplace_back(value, 2.0 * error + 64.0 * unit);
  }
  return result;
}

// Attention with everything explicit. Errors: scores as products of length C, amplified by softmax (a score's absolute
// error is a weight's relative error, twice because of the normaliser), weights' own rounding, and the sum over keys.
inline Expected attention(const Tensor& q, const Tensor& k, const Tensor& v, const std::vector<Segment>& segments,
                          const AttentionSpec& a) {
  const std::int64_t c = a.head_dim, heads = a.heads, group = a.heads / a.kv_heads;
  const std::int64_t qw = heads * c, kw = a.kv_heads * c;
  std::vector<double> value(static_cast<std::size_t>(q.numel())), bound(value.size());
  for (const Segment& s : segments) {
    std::vector<std::int64_t> tokens;
    if (s.prefix >= 0) {
      const Segment& p = segments[static_cast<std::size_t>(s.prefix)];
      for (std::int64_t t = p.begin; t < p.end; ++t) tokens.push_back(t);
    }
    const auto before = static_cast<std::int64_t>(tokens.size());
    for (std::int64_t t = s.begin; t < s.end; ++t) tokens.push_back(t);
    for (std::int64_t h = 0; h < heads; ++h) {
      for (std::int64_t i = before; i < static_cast<std::int64_t>(tokens.size()); ++i) {
        const std::int64_t row = tokens[static_cast<std::size_t>(i)];
        const std::int64_t first = a.window > 0 ? std::max<std::int64_t>(0, i - a.window + 1) : 0;
        std::vector<double> weight;
        double top = -INFINITY, total = 0.0, error = 0.0;
        for (std::int64_t j = first; j <= i; ++j) {
          double sum = 0.0, magnitude = 0.0;
          for (std::int64_t d = 0; d < c; ++d) {
            const double p = element(q, row * qw + h * c + d) *
                             element(k, tokens[static_cast<std::size_t>(j)] * kw + h / group * c + d);
            sum += p;
            magnitude += std::fabs(p);
          }
          weight.push_back(soft_cap(a.scale * sum, a.soft_cap));
          top = std::max(top, weight.back());
          error = std::max(error, 2.0 * (std::sqrt(static_cast<double>(c)) + 2.0) * unit * magnitude * a.scale +
                                      4.0 * unit * std::max(std::fabs(weight.back()), double{a.soft_cap}));
        }
        for (double& w : weight) total += w = std::exp(w - top);
        const auto keys = static_cast<double>(weight.size());
        for (std::int64_t d = 0; d < c; ++d) {
          double sum = 0.0, magnitude = 0.0;
          for (std::int64_t j = first; j <= i; ++j) {
            const double p = weight[static_cast<std::size_t>(j - first)] / total *
                             element(v, tokens[static_cast<std::size_t>(j)] * kw + h / group * c + d);
            sum += p;
            magnitude += std::fabs(p);
          }
          const auto at = static_cast<std::size_t>(row * qw + h * c + d);
          value[at] = sum;
          bound[at] = magnitude * (2.0 * (std::sqrt(keys) + 2.0) * unit * 2.0 + 2.0 * error + 8.0 * unit) +
                      output_unit(q.dtype()) * std::fabs(sum) + (q.dtype() == DType::f16 ? 0x1p-25 : 0x1p-126);
        }
      }
    }
  }
  return {q.shape(), value, bound};
}

}  // namespace ptq::testing

#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace ptq {

namespace {

// base^(2i/d) rounded to fp32, as a float tensor power does.
float frequency_base(double base, int i, int rotary_dim) {
  const float exponent = static_cast<float>(2 * i) / static_cast<float>(rotary_dim);
  return static_cast<float>(std::pow(base, static_cast<double>(exponent)));
}

// The dimension whose wavelength makes `rotations` turns in the original context (YaRN, section 3.2).
double correction_dim(double rotations, const RopeSpec& spec) {
  const auto context = static_cast<double>(spec.original_max_position);
  return spec.rotary_dim * std::log(context / (rotations * 2.0 * std::numbers::pi)) / (2.0 * std::log(spec.theta));
}

std::vector<float> yarn_frequencies(const RopeSpec& spec) {
  const int pairs = spec.rotary_dim / 2;
  double low = correction_dim(spec.beta_fast, spec);
  double high = correction_dim(spec.beta_slow, spec);
  if (spec.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(spec.rotary_dim - 1));
  if (low == high) high += 0.001;
  std::vector<float> inv(static_cast<std::size_t>(pairs));
  for (int i = 0; i < pairs; ++i) {
    const float freq = frequency_base(spec.theta, i, spec.rotary_dim);
    const float extrapolated = 1.0f / freq;
    const float interpolated = 1.0f / (static_cast<float>(spec.factor) * freq);
    const float ramp = (static_cast<float>(i) - static_cast<float>(low)) / static_cast<float>(high - low);
    const float keep = 1.0f - std::clamp(ramp, 0.0f, 1.0f);
    inv[static_cast<std::size_t>(i)] = interpolated * (1.0f - keep) + extrapolated * keep;
  }
  return inv;
}

// Llama-3.1: long wavelengths are slowed by `factor`, short ones kept, those between interpolated.
float llama3_frequency(float inv, const RopeSpec& spec) {
  const auto context = static_cast<float>(spec.original_max_position);
  const auto factor = static_cast<float>(spec.factor);
  const auto low = static_cast<float>(spec.low_freq_factor), high = static_cast<float>(spec.high_freq_factor);
  const float wavelength = 2.0f * std::numbers::pi_v<float> / inv;
  if (wavelength > context / low) return inv / factor;
  if (wavelength < context / high) return inv;
  const float smooth = (context / wavelength - low) / (high - low);
  return (1.0f - smooth) * inv / factor + smooth * inv;
}

float round_to(float x, DType dtype) {
  if (dtype == DType::bf16) return to_float(to_bf16(x));
  if (dtype == DType::f16) return to_float(to_f16(x));
  return x;
}

}  // namespace

std::vector<float> inverse_frequencies(const RopeSpec& spec, std::int64_t length, std::int64_t max_position) {
  if (spec.scaling == RopeScaling::yarn) return yarn_frequencies(spec);
  double theta = spec.theta;
  if (spec.scaling == RopeScaling::dynamic) {
    const double stretch = static_cast<double>(std::max(length, max_position)) / static_cast<double>(max_position);
    theta *= std::pow(spec.factor * stretch - (spec.factor - 1.0),
                      static_cast<double>(spec.rotary_dim) / (spec.rotary_dim - 2));
  }
  const bool beyond = length > spec.original_max_position;
  std::vector<float> inv(static_cast<std::size_t>(spec.rotary_dim / 2));
  for (std::size_t i = 0; i < inv.size(); ++i) {
    const float freq = frequency_base(theta, static_cast<int>(i), spec.rotary_dim);
    switch (spec.scaling) {
      case RopeScaling::longrope:
        inv[i] = 1.0f / (static_cast<float>((beyond ? spec.long_factor : spec.short_factor).at(i)) * freq);
        break;
      case RopeScaling::linear:
        inv[i] = (1.0f / freq) / static_cast<float>(spec.factor);
        break;
      case RopeScaling::llama3:
        inv[i] = llama3_frequency(1.0f / freq, spec);
        break;
      default:
        inv[i] = 1.0f / freq;
    }
  }
  return inv;
}

bool same_frequencies(const RopeSpec& spec, std::int64_t a, std::int64_t b, std::int64_t max_position) {
  if (spec.scaling == RopeScaling::dynamic) return std::max(a, max_position) == std::max(b, max_position);
  if (spec.scaling == RopeScaling::longrope)
    return (a > spec.original_max_position) == (b > spec.original_max_position);
  return true;
}

std::int64_t first_position(std::span<const Segment> segments, const Segment& s) {
  if (s.prefix < 0) return 0;
  const Segment& p = segments[static_cast<std::size_t>(s.prefix)];
  return p.end - p.begin;
}

RopeTables rope_tables(const RopeSpec& spec, std::span<const Segment> segments, std::int64_t tokens,
                       std::int64_t max_position, DType rounding, std::int64_t before) {
  const int pairs = spec.rotary_dim / 2;
  RopeTables tables{Tensor::empty(DType::f32, {tokens, pairs}), Tensor::empty(DType::f32, {tokens, pairs})};
  float* cos = tables.cos.data<float>();
  float* sin = tables.sin.data<float>();
  const auto scale = static_cast<float>(spec.attention_factor);
  for (const Segment& s : segments) {
    const std::int64_t first = before + first_position(segments, s);
    const std::vector<float> inv = inverse_frequencies(spec, first + s.end - s.begin, max_position);
    for (std::int64_t t = s.begin; t < s.end; ++t) {
      const auto position = static_cast<float>(first + t - s.begin);
      for (int i = 0; i < pairs; ++i) {
        const float angle = position * inv[static_cast<std::size_t>(i)];
        cos[t * pairs + i] = round_to(std::cos(angle) * scale, rounding);
        sin[t * pairs + i] = round_to(std::sin(angle) * scale, rounding);
      }
    }
  }
  return tables;
}

}  // namespace ptq

// The uniform quantization grid: the only definition of scale, zero point, rounding and clamping. RTN, GPTQ, the
// kernels and their tests all use it. Source: IST-DASLab/gptq quant.py, in its order of operations: fp32 with
// correctly rounded division, because symmetric grids put the largest negative weight exactly on a rounding tie
// (w / s = -7.5), where a reciprocal would pick another code.
#pragma once

#include "host/host_device.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace ptq {

// Where scale and zero point come from.
enum class GridRule : std::uint8_t {
  gptq,  // the range always holds 0 (IST-DASLab/gptq quant.py)
  awq,   // the range as it is, the zero point clamped into the codes (llm-awq quantizer.py); symmetric: absmax / 7
};

// What a row (or a group of a row) is rounded to. bits 2..8.
struct GridSpec {
  int bits = 4;
  bool symmetric = true;
  bool mse = false;  // shrink the range to minimise sum |q - w|^2.4 (reference: maxshrink 0.8, 100 steps)
  GridRule rule = GridRule::gptq;

  PTQ_HOST_DEVICE int levels() const { return (1 << bits) - 1; }  // the largest code
};

// Grids per row of `columns` columns; group -1: one.
inline std::int64_t group_count(std::int64_t columns, std::int64_t group) {
  return group < 0 ? 1 : (columns + group - 1) / group;
}

// w_hat = scale * (code - zero), code in 0..levels.
struct GridPoint {
  float scale;
  float zero;
};

// The grid of the closed range [lo, hi].
PTQ_HOST_DEVICE inline GridPoint grid_of_range(float lo, float hi, const GridSpec& spec) {
  const auto levels = static_cast<float>(spec.levels());
  if (spec.rule == GridRule::awq) {
    if (spec.symmetric) {
      const float half = (levels + 1.0f) / 2.0f;
      return {std::max(std::max(std::fabs(lo), std::fabs(hi)), 1e-5f) / (half - 1.0f), half};
    }
    const float step = std::max(hi - lo, 1e-5f) / levels;
    return {step, std::clamp(-std::nearbyint(lo / step), 0.0f, levels)};
  }
  lo = std::min(lo, 0.0f);
  hi = std::max(hi, 0.0f);
  if (spec.symmetric) {
    hi = std::max(std::fabs(lo), hi);
    if (lo < 0.0f) lo = -hi;  // an all-positive slice keeps lo = 0, as the reference does
  }
  if (lo == 0.0f && hi == 0.0f) {
    lo = -1.0f;
    hi = 1.0f;
  }
  const float scale = (hi - lo) / levels;
  const float zero = spec.symmetric ? (levels + 1.0f) / 2.0f : std::nearbyint(-lo / scale);
  return {scale, zero};
}

PTQ_HOST_DEVICE inline float code_of(float w, GridPoint g, float levels) {
  return std::clamp(std::nearbyint(w / g.scale) + g.zero, 0.0f, levels);
}

PTQ_HOST_DEVICE inline float value_of(float code, GridPoint g) { return g.scale * (code - g.zero); }

// Symmetric integers with 2^(bits-1) - 1 levels on each side (int8: 127): SmoothQuant fake_quant.py.
PTQ_HOST_DEVICE inline float absmax_scale(float absmax, int bits = 8) {
  return std::max(absmax, 1e-5f) / static_cast<float>((1 << (bits - 1)) - 1);
}
PTQ_HOST_DEVICE inline float absmax_code(float x, float scale, int bits = 8) {
  const auto limit = static_cast<float>((1 << (bits - 1)) - 1);
  return std::clamp(std::nearbyint(x / scale), -limit, limit);
}

}  // namespace ptq

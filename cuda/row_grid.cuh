// The grid of a slice of a row as a warp finds it: host/grid.h on the slice's range (spec A.1, B.1), with the search
// over shrunken ranges if asked for. Twin: host/cpu/row_grid.cpp.
#pragma once

#include "cuda/block.cuh"
#include "host/grid.h"

#include <limits>

namespace ptq::cuda {

struct ValueRange {
  float lo, hi;
};

// NaN (from a non-finite weight) becomes 0.
__device__ inline std::uint8_t stored_code(float code) {
  return static_cast<std::uint8_t>(code > 0.0f ? static_cast<int>(code) : 0);
}

// Smallest and largest of value(0) .. value(n - 1), NaN left out, in every lane; {inf, -inf} if nothing is left.
template <class Value>
__device__ ValueRange warp_range(Value value, int n) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  ValueRange r{infinity, -infinity};
  for (int i = lane_index(); i < n; i += warp_lanes) {
    const float x = value(i);
    r.lo = x < r.lo ? x : r.lo;
    r.hi = x > r.hi ? x : r.hi;
  }
  return {warp_min(r.lo), warp_max(r.hi)};
}

// The grid of value(0) .. value(n - 1), in every lane.
template <class Value>
__device__ GridPoint warp_grid(Value value, int n, const GridSpec& spec) {
  const ValueRange r = warp_range(value, n);
  GridPoint best = grid_of_range(r.lo, r.hi, spec);
  if (!spec.mse) return best;
  const auto levels = static_cast<float>(spec.levels());
  double least = std::numeric_limits<double>::infinity();
  for (int step = 0; step < 80; ++step) {
    const auto shrink = static_cast<float>(1.0 - step / 100.0);
    const GridPoint g = grid_of_range(shrink * r.lo, shrink * r.hi, spec);
    double error = 0.0;
    for (int i = lane_index(); i < n; i += warp_lanes) {
      const float x = value(i), d = fabsf(value_of(code_of(x, g, levels), g) - x);
      if (d > 0.0f) error += static_cast<double>(powf(d, 2.4f));
    }
    error = warp_sum(error);
    if (error < least) {
      least = error;
      best = g;
    }
  }
  return best;
}

}  // namespace ptq::cuda

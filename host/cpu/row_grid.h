// The grid of a slice of a row, as every quantizer of the CPU backend computes it: host/grid.h on the slice's range.
#pragma once

#include "host/grid.h"

#include <cstdint>

namespace ptq {

struct ValueRange {
  float lo, hi;
};

// Smallest and largest of w[0..n), NaN left out; {inf, -inf} if nothing is left.
ValueRange range_of(const float* w, std::int64_t n);

// Spec A.1 and B.1, with the search over shrunken ranges if grid.mse is set (80 steps of 1 %, the first best one wins).
GridPoint grid_of(const float* w, std::int64_t n, const GridSpec& spec);

}  // namespace ptq

#include "host/cpu/row_grid.h"

#include "host/cpu/simd.h"

#include <limits>

namespace ptq {

namespace {

double shrink_error(const float* w, std::int64_t n, GridPoint g, float levels) {
  double sum = 0.0;
  for (std::int64_t i = 0; i < n; ++i) {
    const float d = std::fabs(value_of(code_of(w[i], g, levels), g) - w[i]);
    if (d > 0.0f) sum += std::pow(d, 2.4f);
  }
  return sum;
}

}  // namespace

ValueRange range_of(const float* w, std::int64_t n) {
  using namespace simd;
  vfloat low = infinity(), high = -infinity();
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const vfloat x = load(w + i);
    low = x < low ? x : low;
    high = x > high ? x : high;
  }
  ValueRange r{std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()};
  for (int l = 0; l < lanes; ++l) r = {std::min(r.lo, low[l]), std::max(r.hi, high[l])};
  for (; i < n; ++i) r = {std::min(r.lo, w[i]), std::max(r.hi, w[i])};
  return r;
}

GridPoint grid_of(const float* w, std::int64_t n, const GridSpec& spec) {
  const ValueRange r = range_of(w, n);
  GridPoint best = grid_of_range(r.lo, r.hi, spec);
  if (!spec.mse) return best;
  double least = std::numeric_limits<double>::infinity();
  for (int i = 0; i < 80; ++i) {
    const auto p = static_cast<float>(1.0 - i / 100.0);
    const GridPoint g = grid_of_range(p * r.lo, p * r.hi, spec);
    const double error = shrink_error(w, n, g, static_cast<float>(spec.levels()));
    if (error < least) {
      least = error;
      best = g;
    }
  }
  return best;
}

}  // namespace ptq

// Root mean square of a difference.
#pragma once

#include "host/tensor.h"

#include <cmath>

namespace ptq {

// a, b f32 of one shape, on the host.
inline double rms(const Tensor& a, const Tensor& b) {
  double sum = 0;
  for (std::int64_t i = 0; i < a.numel(); ++i) {
    const double d = static_cast<double>(a.data<float>()[i]) - static_cast<double>(b.data<float>()[i]);
    sum += d * d;
  }
  return std::sqrt(sum / static_cast<double>(a.numel()));
}

}  // namespace ptq

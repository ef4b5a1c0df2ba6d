// What the tests of activation quantization share: random data, differences, and one linear as the program computes it.
#pragma once

#include "model/linear.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace ptq {

inline Tensor normal(Shape shape, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> draw;
  Tensor t = Tensor::empty(DType::f32, std::move(shape));
  for (float& x : t.span<float>()) x = draw(generator);
  return t;
}

inline float at(const Tensor& t, std::int64_t r, std::int64_t c) { return t.data<float>()[r * t.cols() + c]; }

inline double largest(const Tensor& t) {
  double max = 0;
  for (float x : t.span<float>()) max = std::max(max, std::fabs(static_cast<double>(x)));
  return max;
}

inline double max_difference(const Tensor& a, const Tensor& b) {
  EXPECT_EQ(a.numel(), b.numel());
  double worst = 0;
  for (std::int64_t i = 0; i < a.numel(); ++i) {
    const double d = std::fabs(static_cast<double>(a.data<float>()[i]) - b.data<float>()[i]);
    worst = d <= worst ? worst : (std::isfinite(d) ? d : INFINITY);
  }
  return worst;
}

inline double rms_difference(const Tensor& a, const Tensor& b) {
  EXPECT_EQ(a.numel(), b.numel());
  double sum = 0;
  for (std::int64_t i = 0; i < a.numel(); ++i) {
    const double d = static_cast<double>(a.data<float>()[i]) - b.data<float>()[i];
    sum += d * d;
  }
  return std::sqrt(sum / static_cast<double>(a.numel()));
}

inline float row_absmax(const Tensor& x, std::int64_t row) {
  float max = 0;
  for (std::int64_t i = 0; i < x.cols(); ++i) max = std::max(max, std::fabs(at(x, row, i)));
  return max;
}

inline float absmax_of_rows(const Tensor& x, std::int64_t begin, std::int64_t end) {
  float max = 0;
  for (std::int64_t t = begin; t < end; ++t) max = std::max(max, row_absmax(x, t));
  return max;
}

inline ActivationQuant integers(int bits, ActivationRange range = ActivationRange::token, int weight_bits = 8) {
  ActivationQuant how;
  how.kind = ActivationKind::integer;
  how.bits = bits;
  how.range = range;
  how.weight_bits = weight_bits;
  return how;
}

// y = x W^T + b as the program computes it.
inline Tensor product(Ops& ops, const Tensor& x, const Tensor& w, const Tensor& b, const ActivationQuant& how,
                      IntegerProducts products, std::span<const Segment> segments, float fixed_absmax = 0) {
  const Linear linear{pack_floats(ops, w, DType::f32, how, products), b};
  return ops.to_host(SharedInput(ops, x, how, fixed_absmax, segments).apply(linear)).clone();
}

}  // namespace ptq

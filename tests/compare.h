// The comparator of the kernel tests. An element passes if |got - want| <= bound, written in positive form so that a
// NaN never passes; non-finite values must agree exactly. Bounds come with the reference (reference.h).
#pragma once

#include "host/dtype.h"
#include "host/tensor.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

namespace ptq::testing {

// What a kernel should have computed: value and allowed absolute error of each element.
struct Expected {
  Shape shape;
  std::vector<double> value, bound;
};

struct Comparison {
  std::int64_t wrong = 0, worst = -1;  // number of wrong elements; the one that uses most of its bound
  double used = 0.0;                   // its share of the bound
  std::string text;

  explicit operator bool() const { return wrong == 0 && text.empty(); }
};

inline double element(const Tensor& t, std::int64_t i) {
  switch (t.dtype()) {
    case DType::f32:
      return t.data<float>()[i];
    case DType::f64:
      return t.data<double>()[i];
    case DType::bf16:
      return to_float(t.data<bf16>()[i]);
    case DType::f16:
      return to_float(t.data<f16>()[i]);
    case DType::i8:
      return t.data<std::int8_t>()[i];
    case DType::u8:
      return t.data<std::uint8_t>()[i];
    default:
      return t.data<std::int32_t>()[i];
  }
}

inline Comparison compare(const Tensor& got, const Expected& want) {
  Comparison c;
  if (got.shape() != want.shape || want.value.size() != want.bound.size() ||
      static_cast<std::int64_t>(want.value.size()) != got.numel()) {
    c.text = fmt::format("shape {} instead of {}", to_string(got.shape()), to_string(want.shape));
    return c;
  }
  for (std::int64_t i = 0; i < got.numel(); ++i) {
    const auto at = static_cast<std::size_t>(i);
    const double g = element(got, i), w = want.value[at], bound = want.bound[at];
    double used = std::fabs(g - w) / bound;
    if (std::isnan(w) || std::isinf(w)) used = (std::isnan(w) ? std::isnan(g) : g == w) ? 0.0 : INFINITY;
    if (g == w) used = 0.0;       // a bound of zero asks for equality
    const bool ok = used <= 1.0;  // false for NaN
    if (!ok) ++c.wrong;
    if (c.worst < 0 || !(used <= c.used)) {
      c.used = used;
      c.worst = i;
    }
  }
  if (c.wrong > 0) {
    const auto at = static_cast<std::size_t>(c.worst);
    c.text = fmt::format("{} of {} elements wrong; worst at {}: {} instead of {} +- {} ({:.3g} of the bound)", c.wrong,
                         got.numel(), c.worst, element(got, c.worst), want.value[at], want.bound[at], c.used);
  }
  return c;
}

inline ::testing::AssertionResult near(const Tensor& got, const Expected& want) {
  const Comparison c = compare(got, want);
  if (c) return ::testing::AssertionSuccess() << "used " << c.used << " of the bound";
  return ::testing::AssertionFailure() << c.text;
}

// Same dtype, shape and bits.
inline ::testing::AssertionResult same_bits(const Tensor& a, const Tensor& b) {
  if (a.dtype() != b.dtype() || a.shape() != b.shape()) {
    return ::testing::AssertionFailure() << to_string(a.shape()) << " against " << to_string(b.shape());
  }
  const auto* x = static_cast<const unsigned char*>(a.raw());
  const auto* y = static_cast<const unsigned char*>(b.raw());
  for (std::size_t i = 0; i < a.bytes(); ++i) {
    if (x[i] != y[i]) {
      const auto at = static_cast<std::int64_t>(i / size_of(a.dtype()));
      return ::testing::AssertionFailure() << "element " << at << ": " << element(a, at) << " and " << element(b, at);
    }
  }
  return ::testing::AssertionSuccess();
}

}  // namespace ptq::testing

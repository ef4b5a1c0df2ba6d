// Random inputs and small shortcuts shared by the tests of the quantizers.
#pragma once

#include "device.h"
#include "quant/hessian.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>

namespace ptq {

// The exit code of the Error that `action` throws; its message must be one line.
inline Exit exit_of(const std::function<void()>& action, std::string* message = nullptr) {
  try {
    action();
  } catch (const Error& e) {
    EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos) << e.what();
    if (message) *message = e.what();
    return e.code();
  }
  return Exit::ok;
}

inline Tensor gaussian(std::int64_t rows, std::int64_t cols, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  Tensor t = Tensor::empty(DType::f32, {rows, cols});
  for (float& v : t.span<float>()) v = normal(random);
  return t;
}

// Inputs with strongly correlated columns of different size: x = z A, A a random walk.
inline Tensor correlated(std::int64_t tokens, std::int64_t cols, unsigned seed) {
  Tensor x = gaussian(tokens, cols, seed);
  float* v = x.data<float>();
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t k = 1; k < cols; ++k) v[t * cols + k] = 0.8f * v[t * cols + k - 1] + 0.6f * v[t * cols + k];
    for (std::int64_t k = 0; k < cols; ++k) v[t * cols + k] *= 0.5f + 0.25f * static_cast<float>((7 * k) % 5);
  }
  return x;
}

inline QuantSpec gptq_spec(int bits, std::int64_t group, bool symmetric) {
  QuantSpec spec;
  spec.bits = bits;
  spec.group = group;
  spec.symmetric = symmetric;
  return spec;
}

inline HessianFactor factor_of(const Tensor& x, const QuantSpec& spec) {
  Hessian h(ops(), x.cols());
  h.add(ops().to_device(x), 1);
  return factor_hessian(ops(), h, spec, "test");
}

inline HessianFactor factor_of_matrix(const std::vector<float>& h, const QuantSpec& spec) {
  const auto k = static_cast<std::int64_t>(std::lround(std::sqrt(static_cast<double>(h.size()))));
  Hessian hessian = Hessian::of_matrix(ops(), Tensor::of(h, {k, k}));
  return factor_hessian(ops(), hessian, spec, "test");
}

}  // namespace ptq

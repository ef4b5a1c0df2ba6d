// References of the quantization kernels: test matrices, groups, and the GPTQ sweep written as the specification reads.
#pragma once

#include "backends.h"
#include "host/grid.h"
#include "reference.h"

#include <algorithm>
#include <vector>

namespace ptq::testing {

inline std::int64_t groups_of(std::int64_t columns, std::int64_t group) {
  return group < 0 ? 1 : (columns + group - 1) / group;
}

inline Tensor group_index(std::int64_t columns, std::int64_t group) {
  Tensor g = Tensor::zeros(DType::i32, {columns});
  for (std::int64_t c = 0; c < columns; ++c) {
    g.data<std::int32_t>()[c] = group < 0 ? 0 : static_cast<std::int32_t>(c / group);
  }
  return g;
}

// A positive definite matrix with condition number about 100: X^T X / T + I / 50 for T = 4 n.
inline std::vector<double> well_conditioned(std::int64_t n, unsigned seed) {
  const Tensor x = random(DType::f32, {4 * n, n}, seed);
  std::vector<double> h(static_cast<std::size_t>(n * n));
  for (std::int64_t t = 0; t < 4 * n; ++t) {
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t j = 0; j < n; ++j) {
        h[static_cast<std::size_t>(i * n + j)] +=
            element(x, t * n + i) * element(x, t * n + j) / static_cast<double>(4 * n);
      }
    }
  }
  for (std::int64_t i = 0; i < n; ++i) h[static_cast<std::size_t>(i * n + i)] += 0.02;
  return h;
}

struct SweepResult {
  Tensor w, codes, scales, zeros, row_error;
};

// Spec A.5 as it is written: W and W1 apart, group parameters from W.
inline SweepResult plain_sweep(const Tensor& w_in, const Tensor& u, const SweepSpec& spec, const Tensor& fixed_scales,
                               const Tensor& fixed_zeros, const Tensor& g_idx) {
  const std::int64_t rows = w_in.rows(), columns = w_in.cols();
  const std::int64_t groups = fixed_scales ? fixed_scales.cols() : groups_of(columns, spec.group);
  SweepResult out{w_in.clone(), Tensor::empty(DType::u8, w_in.shape()),
                  fixed_scales ? fixed_scales.clone() : Tensor::zeros(DType::f32, {rows, groups}),
                  fixed_scales ? fixed_zeros.clone() : Tensor::zeros(DType::f32, {rows, groups}),
                  Tensor::zeros(DType::f64, {rows})};
  const auto levels = static_cast<float>(spec.grid.levels());
  for (std::int64_t r = 0; r < rows; ++r) {
    std::vector<float> w(w_in.data<float>() + r * columns, w_in.data<float>() + (r + 1) * columns), error(w.size());
    for (std::int64_t i1 = 0; i1 < columns; i1 += spec.block) {
      const std::int64_t i2 = std::min<std::int64_t>(columns, i1 + spec.block);
      std::vector<float> w1(w.begin() + i1, w.begin() + i2);
      for (std::int64_t c = i1; c < i2; ++c) {
        const std::int64_t g = fixed_scales ? g_idx.data<std::int32_t>()[c] : c / spec.group;
        float &scale = out.scales.data<float>()[r * groups + g], &zero = out.zeros.data<float>()[r * groups + g];
        if (!fixed_scales && c % spec.group == 0) {
          const auto [lo, hi] = std::minmax_element(w.begin() + c, w.begin() + std::min(columns, c + spec.group));
          const GridPoint p = grid_of_range(*lo, *hi, spec.grid);
          scale = p.scale;
          zero = p.zero;
        }
        const float x = w1[static_cast<std::size_t>(c - i1)], d = u.data<float>()[c * columns + c];
        const float code = code_of(x, {scale, zero}, levels), q = value_of(code, {scale, zero});
        const float e = (x - q) / d;
        for (std::int64_t k = c; k < i2; ++k)
          w1[static_cast<std::size_t>(k - i1)] -= e * u.data<float>()[c * columns + k];
        error[static_cast<std::size_t>(c)] = e;
        out.w.data<float>()[r * columns + c] = q;
        out.codes.data<std::uint8_t>()[r * columns + c] = static_cast<std::uint8_t>(code);
        out.row_error.data<double>()[r] += (x - q) * (x - q) / (d * d) / 2.0f;
      }
      for (std::int64_t k = i2; k < columns; ++k) {
        float sum = 0.0f;
        for (std::int64_t c = i1; c < i2; ++c) {
          sum = std::fma(error[static_cast<std::size_t>(c)], u.data<float>()[c * columns + k], sum);
        }
        w[static_cast<std::size_t>(k)] -= sum;
      }
    }
  }
  return out;
}

}  // namespace ptq::testing

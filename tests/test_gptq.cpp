// Properties of GPTQ, and GPTQ against an independent oracle: optimal brain quantization by explicit
// inversion at every step, in double precision.
#include "quant/gptq.h"
#include "quant/rtn.h"
#include "tests/quant_inputs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace ptq {
namespace {

using Matrix = std::vector<std::vector<double>>;

// (2 / sequences) X^T X in double, with the dead fix.
Matrix hessian_in_double(const Tensor& x) {
  const auto k = static_cast<std::size_t>(x.cols());
  Matrix h(k, std::vector<double>(k));
  for (std::int64_t t = 0; t < x.rows(); ++t) {
    const float* row = x.data<float>() + t * x.cols();
    for (std::size_t i = 0; i < k; ++i) {
      for (std::size_t j = 0; j < k; ++j) h[i][j] += 2.0 * static_cast<double>(row[i]) * static_cast<double>(row[j]);
    }
  }
  for (std::size_t i = 0; i < k; ++i) h[i][i] = h[i][i] == 0.0 ? 1.0 : h[i][i];
  return h;
}

void add_damping(Matrix& h, double fraction) {
  double trace = 0;
  for (std::size_t i = 0; i < h.size(); ++i) trace += h[i][i];
  for (std::size_t i = 0; i < h.size(); ++i) h[i][i] += fraction * trace / static_cast<double>(h.size());
}

// Inverse by Gauss-Jordan elimination.
Matrix inverse(Matrix a) {
  const std::size_t n = a.size();
  Matrix b(n, std::vector<double>(n));
  for (std::size_t i = 0; i < n; ++i) b[i][i] = 1;
  for (std::size_t p = 0; p < n; ++p) {
    const double pivot = a[p][p];
    for (std::size_t j = 0; j < n; ++j) {
      a[p][j] /= pivot;
      b[p][j] /= pivot;
    }
    for (std::size_t i = 0; i < n; ++i) {
      if (i == p) continue;
      const double f = a[i][p];
      for (std::size_t j = 0; j < n; ++j) {
        a[i][j] -= f * a[p][j];
        b[i][j] -= f * b[p][j];
      }
    }
  }
  return b;
}

struct Oracle {
  std::vector<int> codes;
  double margin = 1.0;  // smallest distance of any rounding decision from its tie
};

// One row, columns in the order given: before each column the inverse of the remaining columns' Hessian is computed
// from scratch. Asymmetric grids. Group grids come from the weights as they were at the start of the lazy block.
Oracle brute_force(std::vector<double> w, const Matrix& h, const QuantSpec& spec) {
  const std::size_t k = w.size();
  const double levels = (1 << spec.bits) - 1;
  Oracle result;
  const auto round = [&](double v) {
    const double r = std::nearbyint(v);
    result.margin = std::min(result.margin, 0.5 - std::fabs(v - r));
    return r;
  };
  double scale = 1, zero = 0;
  const auto grid = [&](const std::vector<double>& from, std::size_t begin, std::size_t end) {
    double lo = 0, hi = 0;
    for (std::size_t i = begin; i < std::min(end, k); ++i) {
      lo = std::min(lo, from[i]);
      hi = std::max(hi, from[i]);
    }
    scale = (hi - lo) / levels;
    zero = round(-lo / scale);
  };
  std::vector<double> at_block_start = w;
  if (spec.group == -1) grid(w, 0, k);
  for (std::size_t c = 0; c < k; ++c) {
    if (c % static_cast<std::size_t>(spec.block) == 0) at_block_start = w;
    if (spec.group > 0 && c % static_cast<std::size_t>(spec.group) == 0) {
      grid(at_block_start, c, c + static_cast<std::size_t>(spec.group));
    }
    const double code = std::clamp(round(w[c] / scale) + zero, 0.0, levels);
    result.codes.push_back(static_cast<int>(code));
    const double error = w[c] - scale * (code - zero);
    Matrix rest;
    for (std::size_t i = c; i < k; ++i) rest.emplace_back(h[i].begin() + static_cast<std::ptrdiff_t>(c), h[i].end());
    const Matrix inv = inverse(std::move(rest));
    for (std::size_t j = c; j < k; ++j) w[j] -= error / inv[0][0] * inv[0][j - c];
  }
  return result;
}

TEST(Gptq, EqualsBruteForceObq) {
  struct Case {
    int bits;
    std::int64_t columns, group;
    int block;
    bool act_order;
  };
  int compared = 0, skipped = 0;
  for (const Case& c :
       {Case{4, 24, -1, 128, false}, Case{3, 40, 8, 128, false}, Case{3, 40, 8, 8, false}, Case{4, 29, 6, 12, false},
        Case{2, 32, 32, 16, false}, Case{3, 30, -1, 7, true}, Case{4, 30, 10, 10, true}}) {
    const Tensor w = gaussian(6, c.columns, 11);
    const Tensor x = correlated(3 * c.columns, c.columns, 12);
    QuantSpec spec = gptq_spec(c.bits, c.group, false);
    spec.block = c.block;
    spec.act_order = c.act_order;
    const HessianFactor factor = factor_of(x, spec);
    const QuantizedMatrix m = quantize_gptq(ops(), w, factor, spec);

    Matrix h = hessian_in_double(x), permuted = h;
    add_damping(h, spec.damp);
    for (std::size_t i = 0; i < h.size(); ++i) {
      for (std::size_t j = 0; j < h.size(); ++j) {
        permuted[i][j] = h[static_cast<std::size_t>(factor.order[i])][static_cast<std::size_t>(factor.order[j])];
      }
    }
    for (std::int64_t n = 0; n < w.rows(); ++n) {
      std::vector<double> row;
      for (std::int32_t column : factor.order)
        row.push_back(static_cast<double>(w.data<float>()[n * c.columns + column]));
      const Oracle oracle = brute_force(row, permuted, spec);
      // fp32 keeps w/s to about 1e-5 here; a decision closer than that to its tie may legitimately differ.
      if (oracle.margin < 2e-4) {
        ++skipped;
        continue;
      }
      ++compared;
      for (std::size_t j = 0; j < row.size(); ++j) {
        ASSERT_EQ(oracle.codes[j], m.codes.data<std::uint8_t>()[n * c.columns + factor.order[j]])
            << "bits " << c.bits << " group " << c.group << " block " << c.block << " row " << n << " place " << j;
      }
    }
  }
  EXPECT_GT(compared, 5 * skipped);
}

// dW (H + lambda) dW^T = sum e^2 where e = (w - q) / U_jj: the errors that the sweep reports are the loss it leaves.
TEST(Gptq, ReportedErrorIsTheQuadraticLoss) {
  for (bool act_order : {false, true}) {
    const Tensor w = gaussian(5, 150, 1), x = correlated(400, 150, 2);
    QuantSpec spec = gptq_spec(4, 32, true);
    spec.act_order = act_order;
    const QuantizedMatrix m = quantize_gptq(ops(), w, factor_of(x, spec), spec);
    Matrix h = hessian_in_double(x);
    add_damping(h, spec.damp);
    for (std::int64_t n = 0; n < w.rows(); ++n) {
      double loss = 0;
      std::vector<double> d(h.size());
      for (std::size_t k = 0; k < h.size(); ++k) {
        const std::int64_t at = n * w.cols() + static_cast<std::int64_t>(k);
        d[k] = static_cast<double>(w.data<float>()[at]) - static_cast<double>(m.q.data<float>()[at]);
      }
      for (std::size_t i = 0; i < h.size(); ++i) {
        for (std::size_t j = 0; j < h.size(); ++j) loss += d[i] * h[i][j] * d[j];
      }
      EXPECT_NEAR(2 * m.err_rows.data<double>()[n], loss, 2e-3 * loss);
    }
  }
}

double output_loss(const Tensor& w, const Tensor& q, const Tensor& x) {
  double loss = 0;
  for (std::int64_t t = 0; t < x.rows(); ++t) {
    for (std::int64_t n = 0; n < w.rows(); ++n) {
      double y = 0;
      for (std::int64_t k = 0; k < w.cols(); ++k) {
        const double d = static_cast<double>(w.data<float>()[n * w.cols() + k]) -
                         static_cast<double>(q.data<float>()[n * w.cols() + k]);
        y += d * static_cast<double>(x.data<float>()[t * x.cols() + k]);
      }
      loss += y * y;
    }
  }
  return loss;
}

TEST(Gptq, LosesLessThanRoundToNearest) {
  for (int bits : {2, 3, 4, 8}) {
    for (std::int64_t group : {std::int64_t{-1}, std::int64_t{32}}) {
      for (bool symmetric : {false, true}) {
        const QuantSpec spec = gptq_spec(bits, group, symmetric);
        const Tensor w = gaussian(16, 96, 3), x = correlated(300, 96, 4);
        const double gptq = output_loss(w, quantize_gptq(ops(), w, factor_of(x, spec), spec).q, x);
        const double rtn = output_loss(w, quantize_rtn(ops(), w, spec).q, x);
        EXPECT_LT(gptq, rtn) << bits << " bits, group " << group << (symmetric ? " sym" : " asym");
      }
    }
  }
}

// The canary of the whole project: if another calibration set gave the same codes, no finding about calibration sets
// could be trusted. The same set must give the same bits.
TEST(Gptq, CalibrationReachesTheCodes) {
  const QuantSpec spec = gptq_spec(4, 32, true);
  const Tensor w = gaussian(16, 96, 3);
  const auto codes = [&](unsigned seed) {
    const QuantizedMatrix m = quantize_gptq(ops(), w, factor_of(correlated(300, 96, seed), spec), spec);
    return std::vector<std::uint8_t>(m.codes.data<std::uint8_t>(), m.codes.data<std::uint8_t>() + m.codes.numel());
  };
  const auto first = codes(5);
  EXPECT_EQ(first, codes(5));
  EXPECT_NE(first, codes(6));
}

TEST(Gptq, DeadColumns) {
  const std::vector<std::int64_t> dead{0, 7, 31, 63};
  const Tensor w = gaussian(9, 64, 21), x = correlated(200, 64, 22);
  for (std::int64_t t = 0; t < x.rows(); ++t) {
    for (std::int64_t k : dead) x.data<float>()[t * 64 + k] = 0.0f;
  }
  for (std::int64_t group : {std::int64_t{-1}, std::int64_t{16}}) {
    QuantSpec spec = gptq_spec(4, group, false);
    const HessianFactor factor = factor_of(x, spec);
    EXPECT_EQ(factor.dead_columns, 4);
    double trace = 0;
    const Matrix h = hessian_in_double(x);
    for (std::size_t i = 0; i < h.size(); ++i) trace += h[i][i];
    EXPECT_NEAR(factor.damp_added, 0.01 * trace / 64, 1e-4 * factor.damp_added);  // the injected ones are in the mean

    spec.dead = DeadPolicy::zero;
    const QuantizedMatrix zeroed = quantize_gptq(ops(), w, factor, spec);
    spec.dead = DeadPolicy::rtn;
    const QuantizedMatrix kept = quantize_gptq(ops(), w, factor, spec);
    for (std::int64_t n = 0; n < w.rows(); ++n) {
      for (std::int64_t k : dead) {
        EXPECT_EQ(zeroed.q.data<float>()[n * 64 + k], 0.0f);
        const std::int64_t g = kept.g_idx.data<std::int32_t>()[k], groups = kept.scales.cols();
        const GridPoint grid{kept.scales.data<float>()[n * groups + g], kept.zeros.data<float>()[n * groups + g]};
        EXPECT_EQ(kept.q.data<float>()[n * 64 + k], value_of(code_of(w.data<float>()[n * 64 + k], grid, 15.0f), grid));
      }
    }
  }
}

// A row grid is taken before dead columns are deleted: its range comes from the dead column here.
TEST(Gptq, RowGridSeesDeadColumns) {
  const Tensor w = Tensor::of<float>({8.0f, 1.0f, -1.0f, 0.5f}, {1, 4});
  QuantSpec spec = gptq_spec(4, -1, true);
  const std::vector<float> h{0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 3, 0, 0, 0, 0, 1};
  EXPECT_EQ(quantize_gptq(ops(), w, factor_of_matrix(h, spec), spec).scales.data<float>()[0], 16.0f / 15.0f);
  spec.group = 4;
  EXPECT_EQ(quantize_gptq(ops(), w, factor_of_matrix(h, spec), spec).scales.data<float>()[0], 2.0f / 15.0f);
}

TEST(Gptq, ActOrderIsGptqOfPermutedColumns) {
  const std::int64_t k = 60;
  const Tensor w = gaussian(7, k, 31), x = correlated(200, k, 32);
  QuantSpec spec = gptq_spec(4, 16, false);
  spec.act_order = true;
  const HessianFactor factor = factor_of(x, spec);
  const QuantizedMatrix m = quantize_gptq(ops(), w, factor, spec);
  ASSERT_EQ(std::vector<std::int32_t>(m.perm.data<std::int32_t>(), m.perm.data<std::int32_t>() + k), factor.order);

  const Matrix h = hessian_in_double(x);
  for (std::size_t j = 1; j < factor.order.size(); ++j) {
    const auto a = static_cast<std::size_t>(factor.order[j - 1]), b = static_cast<std::size_t>(factor.order[j]);
    EXPECT_GE(h[a][a], h[b][b] * (1 - 1e-5));
  }
  const auto permute = [&](const Tensor& t) {
    Tensor out = Tensor::empty(DType::f32, t.shape());
    for (std::int64_t r = 0; r < t.rows(); ++r) {
      for (std::int64_t j = 0; j < k; ++j) {
        out.data<float>()[r * k + j] = t.data<float>()[r * k + factor.order[static_cast<std::size_t>(j)]];
      }
    }
    return out;
  };
  QuantSpec plain = spec;
  plain.act_order = false;
  const QuantizedMatrix p = quantize_gptq(ops(), permute(w), factor_of(permute(x), plain), plain);
  const Tensor q = permute(m.q);
  for (std::int64_t i = 0; i < q.numel(); ++i) ASSERT_NEAR(q.data<float>()[i], p.q.data<float>()[i], 1e-5f);
  for (std::int64_t j = 0; j < k; ++j) {
    EXPECT_EQ(m.g_idx.data<std::int32_t>()[factor.order[static_cast<std::size_t>(j)]], j / 16);
  }
}

TEST(Gptq, StaticGroupsAreTheGridsOfTheWeights) {
  const Tensor w = gaussian(7, 60, 41), x = correlated(200, 60, 42);
  QuantSpec spec = gptq_spec(4, 16, true);
  spec.static_groups = spec.act_order = true;
  const QuantizedMatrix m = quantize_gptq(ops(), w, factor_of(x, spec), spec);
  const QuantizedMatrix r = quantize_rtn(ops(), w, spec);
  ASSERT_EQ(m.scales.shape(), Shape({7, 4}));  // the last group has 12 columns
  for (std::int64_t i = 0; i < m.scales.numel(); ++i) EXPECT_EQ(m.scales.data<float>()[i], r.scales.data<float>()[i]);
  for (std::int64_t k = 0; k < 60; ++k) EXPECT_EQ(m.g_idx.data<std::int32_t>()[k], k / 16);
}

TEST(Gptq, ValuesAreScaleTimesCodeMinusZero) {
  for (bool act_order : {false, true}) {
    QuantSpec spec = gptq_spec(3, 13, false);
    spec.act_order = act_order;
    const Tensor w = gaussian(5, 50, 51);
    const QuantizedMatrix m = quantize_gptq(ops(), w, factor_of(correlated(120, 50, 52), spec), spec);
    ASSERT_EQ(m.scales.cols(), 4);
    for (std::int64_t i = 0; i < w.numel(); ++i) {
      const std::int64_t at = i / 50 * 4 + m.g_idx.data<std::int32_t>()[i % 50];
      const GridPoint grid{m.scales.data<float>()[at], m.zeros.data<float>()[at]};
      ASSERT_EQ(m.q.data<float>()[i], value_of(static_cast<float>(m.codes.data<std::uint8_t>()[i]), grid));
    }
  }
}

}  // namespace
}  // namespace ptq

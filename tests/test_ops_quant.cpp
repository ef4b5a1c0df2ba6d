// Grids, rounding to them, and the inverse factor against straightforward code.
#include "quant_reference.h"

namespace ptq::testing {
namespace {

using Quant = OpsTest;
PTQ_ON_ALL_BACKENDS(Quant);

// Rows that a grid must survive: random, zero, one-signed, constant, a single weight, tiny.
Tensor grid_rows(std::int64_t columns) {
  Tensor w = random(DType::f32, {7, columns}, 1);
  float* x = w.data<float>();
  for (std::int64_t i = 0; i < columns; ++i) {
    x[columns + i] = 0.0f;
    x[2 * columns + i] = std::fabs(x[2 * columns + i]);
    x[3 * columns + i] = -std::fabs(x[3 * columns + i]);
    x[4 * columns + i] = 0.25f;
    x[5 * columns + i] = i == columns / 2 ? -0.3f : 0.0f;
    x[6 * columns + i] *= 1e-6f;
  }
  return w;
}

TEST_P(Quant, GridsAndRoundingFollowTheDefinition) {
  for (std::int64_t columns : {1, 37, 64, 200}) {
    for (std::int64_t group : {-1, 32, 64}) {
      for (const GridSpec& spec : {GridSpec{4, true, false}, GridSpec{4, false, false}, GridSpec{2, true, false},
                                   GridSpec{8, false, false}, GridSpec{3, false, false}}) {
        const Tensor w = grid_rows(columns), g_idx = group_index(columns, group);
        const std::int64_t groups = groups_of(columns, group), width = group < 0 ? columns : group;
        Guarded scales(*ops, DType::f32, {7, groups}), zeros(*ops, DType::f32, {7, groups});
        ops->group_grids(scales.tensor(), zeros.tensor(), device(w), spec, group);
        Guarded q(*ops, DType::f32, {7, columns}, w), codes(*ops, DType::u8, {7, columns});
        ops->round_to_grids(q.tensor(), codes.tensor(), scales.tensor(), zeros.tensor(), device(g_idx), spec);
        const Tensor s = scales.read(), z = zeros.read(), value = q.read(), code = codes.read();
        for (std::int64_t r = 0; r < 7; ++r) {
          for (std::int64_t g = 0; g < groups; ++g) {
            const auto* first = w.data<float>() + r * columns + g * width;
            const auto [lo, hi] = std::minmax_element(first, first + std::min(width, columns - g * width));
            const GridPoint want = grid_of_range(*lo, *hi, spec);
            EXPECT_EQ(s.data<float>()[r * groups + g], want.scale);
            EXPECT_EQ(z.data<float>()[r * groups + g], want.zero);
          }
          for (std::int64_t c = 0; c < columns; ++c) {
            const std::int64_t at = r * groups + g_idx.data<std::int32_t>()[c];
            const GridPoint p{s.data<float>()[at], z.data<float>()[at]};
            const float want = code_of(w.data<float>()[r * columns + c], p, static_cast<float>(spec.levels()));
            EXPECT_EQ(static_cast<float>(code.data<std::uint8_t>()[r * columns + c]), want);
            EXPECT_EQ(value.data<float>()[r * columns + c], value_of(want, p));
          }
        }
      }
    }
  }
}

// Among 80 shrunken ranges the search takes one of least sum |q - w|^2.4, to the rounding of its fp32 powers.
TEST_P(Quant, RangeSearchFindsTheLeastError) {
  for (const bool symmetric : {false, true}) {
    for (const int bits : {2, 4}) {
      const GridSpec spec{bits, symmetric, true};
      const std::int64_t columns = 200, group = 64, groups = 4;
      const Tensor w = grid_rows(columns);
      Guarded scales(*ops, DType::f32, {7, groups}), zeros(*ops, DType::f32, {7, groups});
      ops->group_grids(scales.tensor(), zeros.tensor(), device(w), spec, group);
      const Tensor s = scales.read(), z = zeros.read();
      for (std::int64_t r = 0; r < 7; ++r) {
        for (std::int64_t g = 0; g < groups; ++g) {
          const std::span<const float> slice{w.data<float>() + r * columns + g * group,
                                             static_cast<std::size_t>(std::min(group, columns - g * group))};
          const auto [lo, hi] = std::minmax_element(slice.begin(), slice.end());
          const GridPoint chosen{s.data<float>()[r * groups + g], z.data<float>()[r * groups + g]};
          const auto error = [&](GridPoint p) {
            double sum = 0.0;
            for (float x : slice)
              sum +=
                  std::pow(std::fabs(double{value_of(code_of(x, p, static_cast<float>(spec.levels())), p)} - x), 2.4);
            return sum;
          };
          double least = INFINITY;
          bool known = false;
          for (int i = 0; i < 80; ++i) {
            const auto part = static_cast<float>(1.0 - i / 100.0);
            const GridPoint p = grid_of_range(part * *lo, part * *hi, spec);
            least = std::min(least, error(p));
            known |= p.scale == chosen.scale && p.zero == chosen.zero;
          }
          EXPECT_TRUE(known) << r << " " << g;
          EXPECT_LE(error(chosen), least * (1.0 + 1e-5)) << r << " " << g;
        }
      }
    }
  }
}

// spec A.1: a weight of -max lies exactly on a tie, decided by fp32 rounding of 2m/15 and w/s.
TEST_P(Quant, SymmetricTieUsesCorrectlyRoundedDivision) {
  const std::int64_t n = 4096;
  Tensor w = random(DType::f32, {n, 1}, 3, Data::positive);
  for (float& x : w.span<float>()) x = -x;
  Tensor expected = Tensor::empty(DType::u8, {n, 1});
  int ones = 0;
  for (std::int64_t r = 0; r < n; ++r) {
    const float m = -w.data<float>()[r];
    const float s = (m + m) / 15.0f;
    expected.data<std::uint8_t>()[r] = static_cast<std::uint8_t>(std::nearbyint(-m / s) + 8.0f);
    ones += expected.data<std::uint8_t>()[r];
  }
  EXPECT_GT(ones, 0);  // both outcomes occur, so the test distinguishes
  EXPECT_LT(ones, n);
  Guarded scales(*ops, DType::f32, {n, 1}), zeros(*ops, DType::f32, {n, 1}), codes(*ops, DType::u8, {n, 1});
  Guarded q(*ops, DType::f32, {n, 1}, w);
  ops->group_grids(scales.tensor(), zeros.tensor(), device(w), {}, -1);
  ops->round_to_grids(q.tensor(), codes.tensor(), scales.tensor(), zeros.tensor(), device(group_index(1, -1)), {});
  EXPECT_TRUE(same_bits(codes.read(), expected));
}

TEST_P(Quant, MseSearchNeverIncreasesTheError) {
  const Tensor w = grid_rows(64);
  const auto error = [&](const GridSpec& spec, double* per_row) {
    const Tensor s = ops->empty(DType::f32, {7, 2}), z = ops->empty(DType::f32, {7, 2});
    ops->group_grids(s, z, device(w), spec, 32);
    Guarded q(*ops, DType::f32, w.shape(), w), codes(*ops, DType::u8, w.shape());
    ops->round_to_grids(q.tensor(), codes.tensor(), s, z, device(group_index(64, 32)), spec);
    const Tensor value = q.read();
    for (std::int64_t r = 0; r < 7; ++r) {
      per_row[r] = 0.0;
      for (std::int64_t c = r * 64; c < r * 64 + 64; ++c) {
        per_row[r] += std::pow(std::fabs(double{value.data<float>()[c]} - w.data<float>()[c]), 2.4);
      }
    }
  };
  for (bool symmetric : {true, false}) {
    double plain[7], searched[7];
    error({3, symmetric, false}, plain);
    error({3, symmetric, true}, searched);
    for (int r = 0; r < 7; ++r) EXPECT_LE(searched[r], plain[r] * (1 + 1e-5)) << r;
    EXPECT_LT(searched[0], plain[0]);
  }
}

// U H U^T = I is the definition of U. Returns the largest deviation.
double residual(const std::vector<double>& h, const Tensor& u, std::int64_t n) {
  std::vector<double> uh(h.size());
  double worst = 0.0;
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t k = i; k < n; ++k) {
      const double x = element(u, i * n + k);
      for (std::int64_t j = 0; j < n; ++j) {
        uh[static_cast<std::size_t>(i * n + j)] += x * h[static_cast<std::size_t>(k * n + j)];
      }
    }
  }
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = i == j ? -1.0 : 0.0;
      for (std::int64_t k = j; k < n; ++k) sum += uh[static_cast<std::size_t>(i * n + k)] * element(u, j * n + k);
      worst = std::max(worst, std::fabs(sum));
    }
  }
  return worst;
}

TEST_P(Quant, FactorInverse) {
  for (std::int64_t n : {1, 2, 37, 63, 64, 65, 128, 200, 257}) {
    const std::vector<double> h = well_conditioned(n, static_cast<unsigned>(n));
    for (DType t : {DType::f32, DType::f64}) {
      Tensor in = Tensor::empty(t, {n, n});
      for (std::int64_t i = 0; i < n; ++i) {
        for (std::int64_t j = 0; j < n; ++j) {
          const double x = j < i ? NAN : h[static_cast<std::size_t>(i * n + j)];  // the lower triangle must not matter
          if (t == DType::f32) in.data<float>()[i * n + j] = static_cast<float>(x);
          if (t == DType::f64) in.data<double>()[i * n + j] = x;
        }
      }
      Guarded u(*ops, t, {n, n}, in);
      ASSERT_TRUE(ops->factor_inverse(u.tensor())) << n;
      const Tensor factor = u.read();
      for (std::int64_t i = 0; i < n; ++i) {
        EXPECT_GT(element(factor, i * n + i), 0.0);
        for (std::int64_t j = 0; j < i; ++j) ASSERT_EQ(element(factor, i * n + j), 0.0) << i << " " << j;
      }
      // Backward error of a Cholesky factor and of a triangular inverse: about n u each, times the condition number.
      const double u_t = t == DType::f32 ? 0x1p-24 : 0x1p-53;
      EXPECT_LE(residual(h, factor, n), 2.0 * static_cast<double>(n + 4) * u_t * 100.0) << n << " " << name_of(t);
    }
  }
}

// Around tiles of 128 x 128, at an odd address, and with what the steps of elimination need of each other.
TEST_P(Quant, FactorInverseAtEdgesOfTiles) {
  for (std::int64_t n : {127, 129, 193}) {
    const std::vector<double> h = well_conditioned(n, static_cast<unsigned>(n));
    for (DType t : {DType::f32, DType::f64}) {
      Tensor in = Tensor::zeros(t, {n + 1, n});
      for (std::int64_t i = 0; i < n * n; ++i) {
        if (t == DType::f32) in.data<float>()[n + i] = static_cast<float>(h[static_cast<std::size_t>(i)]);
        if (t == DType::f64) in.data<double>()[n + i] = h[static_cast<std::size_t>(i)];
      }
      const Tensor all = device(in), u = all.slice_rows(1, n + 1);
      ASSERT_TRUE(ops->factor_inverse(u)) << n;
      const Tensor got = ops->to_host(all);
      for (std::int64_t j = 0; j < n; ++j) ASSERT_EQ(element(got, j), 0.0) << "written before the matrix";
      const double u_t = t == DType::f32 ? 0x1p-24 : 0x1p-53;
      EXPECT_LE(residual(h, got.slice_rows(1, n + 1), n), 2.0 * static_cast<double>(n + 4) * u_t * 100.0)
          << n << " " << name_of(t);
    }
  }
}

// Whatever is not finite anywhere in the upper triangle ends in a refusal.
TEST_P(Quant, FactorInverseRefusesNonfinite) {
  for (DType t : {DType::f32, DType::f64}) {
    for (float bad : {NAN, INFINITY, -INFINITY}) {
      for (auto [i, j] : {std::pair<int, int>{0, 0}, {0, 1}, {3, 129}, {64, 70}, {10, 64}, {129, 129}}) {
        Tensor in = Tensor::zeros(t, {130, 130});
        for (std::int64_t d = 0; d < 130; ++d) {
          if (t == DType::f32) in.data<float>()[d * 131] = 1.0f;
          if (t == DType::f64) in.data<double>()[d * 131] = 1.0;
        }
        if (t == DType::f32) in.data<float>()[i * 130 + j] = bad;
        if (t == DType::f64) in.data<double>()[i * 130 + j] = bad;
        EXPECT_FALSE(ops->factor_inverse(device(in))) << bad << " at " << i << ", " << j;
      }
    }
  }
}

TEST_P(Quant, FactorInverseRefusesIndefinite) {
  for (DType t : {DType::f32, DType::f64}) {
    for (std::int64_t bad : {0, 70, 129}) {
      Tensor h = Tensor::zeros(DType::f32, {130, 130});
      for (std::int64_t i = 0; i < 130; ++i) h.data<float>()[i * 131] = i == bad ? -1.0f : 1.0f;
      Tensor in = Tensor::zeros(t, {130, 130});
      for (std::int64_t i = 0; i < 130; ++i) {
        if (t == DType::f32) in.data<float>()[i * 131] = h.data<float>()[i * 131];
        if (t == DType::f64) in.data<double>()[i * 131] = h.data<float>()[i * 131];
      }
      EXPECT_FALSE(ops->factor_inverse(device(in)));
      if (t == DType::f32) {
        in.data<float>()[bad * 131] = NAN;
        EXPECT_FALSE(ops->factor_inverse(device(in)));
      }
    }
  }
}

}  // namespace
}  // namespace ptq::testing

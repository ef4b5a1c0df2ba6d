// channel_sums, histogram and squared_difference against plain loops.
#include "backends.h"
#include "compare.h"

#include <algorithm>
#include <numeric>

namespace ptq::testing {
namespace {

using Statistics = OpsTest;
PTQ_ON_ALL_BACKENDS(Statistics);

constexpr float inf = std::numeric_limits<float>::infinity();

Tensor no_extremes(std::int64_t columns) {
  Tensor t = Tensor::empty(DType::f32, {2, columns});
  std::fill_n(t.data<float>(), columns, inf);
  std::fill_n(t.data<float>() + columns, columns, -inf);
  return t;
}

struct Sums {
  Tensor moments, extremes;
};

Sums sums_of(Ops& ops, const std::vector<Tensor>& parts) {
  const std::int64_t columns = parts.front().cols();
  const Guarded moments(ops, DType::f64, {5, columns}, Tensor::zeros(DType::f64, {5, columns}));
  const Guarded extremes(ops, DType::f32, {2, columns}, no_extremes(columns));
  for (const Tensor& x : parts) ops.channel_sums({moments.tensor(), extremes.tensor()}, ops.to_device(x));
  return {moments.read(), extremes.read()};
}

// Every term has at most 3 roundings in f64 and there are `rows` additions.
TEST_P(Statistics, ChannelSumsFollowTheDefinition) {
  for (DType t : {DType::f32, DType::bf16, DType::f16}) {
    for (std::int64_t rows : {1, 2, 37, 129}) {
      for (std::int64_t columns : awkward) {
        const Tensor x = random(t, {rows, columns}, static_cast<unsigned>(rows * 1000 + columns));
        const Sums got = sums_of(*ops, {x});
        Expected want{{5, columns}, {}, {}}, extremes{{2, columns}, {}, {}};
        extremes.bound.assign(static_cast<std::size_t>(2 * columns), 0.0);
        std::vector<double> largest;
        for (int m = 0; m < 5; ++m) {
          for (std::int64_t c = 0; c < columns; ++c) {
            long double sum = 0.0L, magnitude = 0.0L;
            for (std::int64_t r = 0; r < rows; ++r) {
              const long double v = element(x, r * columns + c);
              const long double term = m == 1 ? std::fabs(v) : std::pow(v, m == 0 ? 1 : m);
              sum += term;
              magnitude += std::fabs(term);
            }
            want.value.push_back(static_cast<double>(sum));
            want.bound.push_back(static_cast<double>(magnitude) * static_cast<double>(rows + 4) * 0x1p-53);
          }
        }
        for (std::int64_t c = 0; c < columns; ++c) {
          double low = INFINITY, high = -INFINITY;
          for (std::int64_t r = 0; r < rows; ++r) {
            low = std::min(low, element(x, r * columns + c));
            high = std::max(high, element(x, r * columns + c));
          }
          extremes.value.push_back(low);
          largest.push_back(high);
        }
        extremes.value.insert(extremes.value.end(), largest.begin(), largest.end());
        EXPECT_TRUE(near(got.moments, want)) << name_of(t) << " " << rows << " " << columns;
        EXPECT_TRUE(near(got.extremes, extremes)) << name_of(t) << " " << rows << " " << columns;
      }
    }
  }
}

TEST_P(Statistics, ChannelSumsOfPartsAreThoseOfTheWhole) {
  for (DType t : {DType::f32, DType::bf16, DType::f16}) {
    for (std::int64_t columns : {64, 65}) {
      const Tensor x = random(t, {701, columns}, 5);
      const Sums whole = sums_of(*ops, {x});
      const Sums parts = sums_of(*ops, {x.slice_rows(0, 1), x.slice_rows(1, 200), x.slice_rows(200, 200),
                                        x.slice_rows(200, 329), x.slice_rows(329, 701)});
      EXPECT_TRUE(same_bits(whole.moments, parts.moments)) << name_of(t) << " " << columns;
      EXPECT_TRUE(same_bits(whole.extremes, parts.extremes)) << name_of(t) << " " << columns;
    }
  }
}

// Rows that begin at no multiple of 16 bytes.
TEST_P(Statistics, UnalignedTensorsGiveTheSameBits) {
  for (DType t : {DType::f32, DType::bf16, DType::f16}) {
    const Tensor all = random(t, {300 * 64 + 1}, 7);
    const Tensor shifted = device(all).slice_rows(1, all.numel()).reshape({300, 64});
    const Tensor aligned = device(all.slice_rows(1, all.numel()).clone().reshape({300, 64}));
    const Sums got = sums_of(*ops, {shifted}), want = sums_of(*ops, {aligned});
    EXPECT_TRUE(same_bits(got.moments, want.moments));
    EXPECT_TRUE(same_bits(got.extremes, want.extremes));
    const Tensor other = device(random(t, {300, 64}, 8));
    EXPECT_EQ(ops->squared_difference(shifted, other), ops->squared_difference(aligned, other));
  }
}

TEST_P(Statistics, ChannelSumsSpreadNoNan) {
  Tensor x = random(DType::f32, {9, 40}, 6);
  const Sums clean = sums_of(*ops, {x});
  x.data<float>()[3 * 40 + 7] = NAN;
  const Sums got = sums_of(*ops, {x});
  for (std::int64_t i = 0; i < 5 * 40; ++i) {
    if (i % 40 == 7) {
      EXPECT_TRUE(std::isnan(element(got.moments, i)));
    } else {
      EXPECT_EQ(element(got.moments, i), element(clean.moments, i));
    }
  }
}

std::vector<std::int64_t> counted(Ops& ops, const std::vector<Tensor>& parts, std::int64_t bins, double lo, double hi) {
  const Guarded counts(ops, DType::i64, {bins + 2}, Tensor::zeros(DType::i64, {bins + 2}));
  for (const Tensor& x : parts) ops.histogram(counts.tensor(), ops.to_device(x), lo, hi);
  const Tensor host = counts.read();
  return {host.data<std::int64_t>(), host.data<std::int64_t>() + bins + 2};
}

// Random values and every edge with its neighbours.
Tensor around_edges(std::int64_t bins, double lo, double hi) {
  std::vector<float> v{inf, -inf, NAN, 0.0f, -0.0f, 1e-40f, 3e38f};
  for (std::int64_t b = 0; b <= bins; ++b) {
    const auto edge = static_cast<float>(lo + (hi - lo) * static_cast<double>(b) / static_cast<double>(bins));
    for (const float x : {std::nextafter(edge, -inf), edge, std::nextafter(edge, inf)}) v.push_back(x);
  }
  const Tensor noise = random(DType::f32, {1, 1000}, 11);
  v.insert(v.end(), noise.data<float>(), noise.data<float>() + 1000);
  return Tensor::of(v, {static_cast<std::int64_t>(v.size())});
}

TEST_P(Statistics, HistogramIsExact) {
  struct Case {
    std::int64_t bins;
    double lo, hi;
  };
  for (const Case& c : {Case{1, -1, 1}, Case{400, -1, 1}, Case{7, -0.3, 0.1}, Case{100, 0.1, 0.7}, Case{3, 1e-3, 1e3},
                        Case{1000, -1e30, 1e30}, Case{7000, -1, 1}, Case{5, -1e39, 1e39}, Case{3, 1e-46, 5e-45},
                        Case{4, -3e38, 3.2e38}}) {
    for (DType t : {DType::f32, DType::bf16, DType::f16}) {
      const Tensor x = around_edges(c.bins, c.lo, c.hi).to(t);
      std::vector<std::int64_t> want(static_cast<std::size_t>(c.bins + 2));
      for (std::int64_t i = 0; i < x.numel(); ++i) {
        const double v = element(x, i);
        if (std::isnan(v)) continue;
        std::int64_t bin = v < c.lo ? 0 : c.bins + 1;
        for (std::int64_t b = 0; b < c.bins && v >= c.lo && v < c.hi; ++b) {
          if (v >= c.lo + (c.hi - c.lo) * static_cast<double>(b) / static_cast<double>(c.bins)) bin = b + 1;
        }
        ++want[static_cast<std::size_t>(bin)];
      }
      EXPECT_EQ(counted(*ops, {x}, c.bins, c.lo, c.hi), want) << c.bins << " " << name_of(t);
    }
  }
}

TEST_P(Statistics, HistogramOfPartsIsThatOfTheWhole) {
  for (DType t : {DType::f32, DType::bf16, DType::f16}) {
    for (const std::int64_t bins : {400, 7000}) {
      const Tensor x = device(random(t, {700, 301}, 12));  // several pieces of the CPU's tasks
      const auto whole = counted(*ops, {x}, bins, -1, 1);
      // 333 * 301 is odd: the second part begins at no whole vector.
      EXPECT_EQ(whole, counted(*ops, {x.slice_rows(0, 333), x.slice_rows(333, 700)}, bins, -1, 1)) << name_of(t);
      EXPECT_EQ(std::accumulate(whole.begin(), whole.end(), std::int64_t{0}), x.numel());
    }
  }
}

TEST_P(Statistics, SquaredDifference) {
  for (DType t : {DType::f32, DType::bf16, DType::f16}) {
    for (std::int64_t n : {1, 7, 8, 9, 16383, 16384, 16385, 65535, 65536, 65537, 200003}) {
      const Tensor a = random(t, {n}, 21), b = random(t, {n}, 22);
      long double want = 0.0L, magnitude = 0.0L;
      for (std::int64_t i = 0; i < n; ++i) {
        const long double d = element(a, i) - element(b, i);
        want += d * d;
        // The difference is rounded to fp32, once.
        magnitude += 2.0L * d * d * 0x1p-24L;
      }
      const double got = ops->squared_difference(device(a), device(b));
      EXPECT_NEAR(got, static_cast<double>(want), static_cast<double>(magnitude) + 1e-12 * static_cast<double>(want));
    }
  }
  EXPECT_EQ(ops->squared_difference(ops->empty(DType::f32, {0}), ops->empty(DType::f32, {0})), 0.0);
  const Tensor x = random(DType::f32, {1000}, 23);
  EXPECT_EQ(ops->squared_difference(device(x), device(x)), 0.0);
}

TEST(StatisticsOnCpu, ThreadsDoNotChangeBits) {
  const Tensor x = random(DType::f32, {517, 389}, 31), y = random(DType::f32, {517, 389}, 32);
  const auto one = make_cpu_ops(1);
  const Sums want = sums_of(*one, {x});
  for (int threads : {2, 3, 8}) {
    const auto many = make_cpu_ops(threads);
    const Sums got = sums_of(*many, {x});
    EXPECT_TRUE(same_bits(got.moments, want.moments));
    EXPECT_TRUE(same_bits(got.extremes, want.extremes));
    EXPECT_EQ(counted(*many, {x}, 400, -1, 1), counted(*one, {x}, 400, -1, 1));
    EXPECT_EQ(many->squared_difference(x, y), one->squared_difference(x, y));
  }
}

}  // namespace
}  // namespace ptq::testing

// Activation quantization of one linear against its definition in f64: ranges of tokens and sequences, static ranges,
// LLM.int8(), NF4; integer products and their floating-point values.
#include "activation_quant.h"
#include "compare.h"
#include "host/grid.h"
#include "model/nf4_book.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace ptq {
namespace {

// The same in f64 from the definition: `x_range(t)`, `w_range(n)` are the absmax of a row.
template <class XRange, class WRange>
testing::Expected definition(const Tensor& x, const Tensor& w, const Tensor& b, int bits, int weight_bits,
                             const XRange& x_range, const WRange& w_range) {
  testing::Expected e{{x.rows(), w.rows()}, {}, {}};
  for (std::int64_t t = 0; t < x.rows(); ++t) {
    for (std::int64_t n = 0; n < w.rows(); ++n) {
      const float sx = absmax_scale(x_range(t), bits), sw = absmax_scale(w_range(n), weight_bits);
      const double top = (1 << (bits - 1)) - 1;
      double sum = 0, size = 0;
      for (std::int64_t i = 0; i < x.cols(); ++i) {
        const double cx = std::clamp<double>(std::nearbyint(at(x, t, i) / sx), -top, top);
        const double cw = std::nearbyint(at(w, n, i) / sw);
        sum += cx * cw;
        size += std::fabs(cx * cw);
      }
      const double scale = static_cast<double>(sx) * sw, bias = b ? b.data<float>()[n] : 0.0;
      e.value.push_back(sum * scale + bias);
      // Exact: the product of the scales, the product with the sum, the bias. Fake: both operands' values are rounded
      // too, and an fp32 chain of x.cols() additions.
      e.bound.push_back(std::exp2(-24.0) * (static_cast<double>(x.cols() + 4) * size * scale + 2 * std::fabs(bias)));
    }
  }
  return e;
}

class ActivationQuantTest : public ::testing::Test {
 protected:
  const std::unique_ptr<Ops> ops = make_cpu_ops(2);
  const Tensor x = normal({37, 96}, 1), w = normal({50, 96}, 2), b = normal({50}, 3);
  const std::vector<Segment> segments{{0, 5, -1}, {5, 36, -1}, {36, 37, -1}};

  void expect(const ActivationQuant& how, const testing::Expected& want, float fixed = 0) {
    for (const auto products : {IntegerProducts::exact, IntegerProducts::fake}) {
      EXPECT_TRUE(testing::near(product(*ops, x, w, b, how, products, segments, fixed), want))
          << (products == IntegerProducts::exact ? "exact" : "fake");
    }
  }
};

TEST_F(ActivationQuantTest, TokensHaveTheirOwnRange) {
  for (int bits : {8, 6, 4}) {
    const auto how = integers(bits, ActivationRange::token, bits);
    expect(how, definition(
                    x, w, b, bits, bits, [&](std::int64_t t) { return row_absmax(x, t); },
                    [&](std::int64_t n) { return row_absmax(w, n); }));
  }
}

TEST_F(ActivationQuantTest, SequencesShareARange) {
  const auto of_sequence = [&](std::int64_t t) {
    for (const Segment& s : segments) {
      if (t < s.end) return absmax_of_rows(x, s.begin, s.end);
    }
    return 0.0f;
  };
  auto how = integers(8, ActivationRange::sequence);
  how.weight_per_tensor = true;
  expect(how, definition(x, w, b, 8, 8, of_sequence, [&](std::int64_t) { return absmax_of_rows(w, 0, w.rows()); }));
  EXPECT_TRUE(spans_sequence(how));
  EXPECT_FALSE(spans_sequence(integers(8)));
}

TEST_F(ActivationQuantTest, FixedRangesClamp) {
  const float range = 1.5f;  // many values of x are larger
  expect(integers(8, ActivationRange::fixed),
         definition(
             x, w, b, 8, 8, [&](std::int64_t) { return range; }, [&](std::int64_t n) { return row_absmax(w, n); }),
         range);
}

// weight_bits 0 leaves the weight alone: W4A8 and the like.
TEST_F(ActivationQuantTest, WeightsWithoutBitsStayAsTheyAre) {
  const auto how = integers(8, ActivationRange::token, 0);
  Tensor values = Tensor::empty(DType::f32, x.shape());
  ops->fake_quantize_rows(values, x, 8);
  const Tensor want = product(*ops, values, w, b, no_quantization, IntegerProducts::exact, segments);
  EXPECT_TRUE(testing::same_bits(product(*ops, x, w, b, how, IntegerProducts::exact, segments), want));
}

TEST_F(ActivationQuantTest, Nf4RoundsBlocksOfATokensFeatures) {
  ActivationQuant how;
  how.kind = ActivationKind::nf4;
  const Tensor y = Tensor::empty(DType::f32, x.shape());
  fake_quantize(*ops, y, x, how, 0, segments);
  for (std::int64_t t = 0; t < x.rows(); ++t) {
    for (std::int64_t begin = 0; begin < x.cols(); begin += nf4_block) {
      const std::int64_t end = std::min(begin + nf4_block, x.cols());
      float absmax = 0;
      for (std::int64_t i = begin; i < end; ++i) absmax = std::max(absmax, std::fabs(at(x, t, i)));
      for (std::int64_t i = begin; i < end; ++i) {
        double best = INFINITY;
        for (float v : nf4_book) best = std::min(best, std::fabs(static_cast<double>(v) * absmax - at(x, t, i)));
        EXPECT_NEAR(std::fabs(static_cast<double>(at(y, t, i)) - at(x, t, i)), best, 1e-6 * absmax);
      }
    }
  }
}

// LLM.int8() from its definition: columns with a value of at least the threshold somewhere in the sequence keep their
// values, the other entries are integers against the absmax of the row's entries below the threshold.
TEST_F(ActivationQuantTest, OutlierColumnsStayFloats) {
  const float threshold = 3.0f;
  auto how = integers(8);
  how.outlier_threshold = threshold;
  EXPECT_TRUE(spans_sequence(how));
  testing::Expected want{{x.rows(), w.rows()}, {}, {}};
  int kept = 0;
  for (const Segment& s : segments) {
    std::vector<bool> outlier(static_cast<std::size_t>(x.cols()));
    for (std::int64_t i = 0; i < x.cols(); ++i) {
      for (std::int64_t t = s.begin; t < s.end; ++t) {
        if (std::fabs(at(x, t, i)) >= threshold) outlier[static_cast<std::size_t>(i)] = true;
      }
      kept += outlier[static_cast<std::size_t>(i)] ? 1 : 0;
    }
    for (std::int64_t t = s.begin; t < s.end; ++t) {
      float range = 0;
      for (std::int64_t i = 0; i < x.cols(); ++i) {
        const float size = std::fabs(at(x, t, i));
        if (size < threshold) range = std::max(range, size);
      }
      const float sx = absmax_scale(range);
      for (std::int64_t n = 0; n < w.rows(); ++n) {
        const float sw = absmax_scale(row_absmax(w, n));
        double sum = b.data<float>()[n], size = std::fabs(sum);
        for (std::int64_t i = 0; i < x.cols(); ++i) {
          const double value = outlier[static_cast<std::size_t>(i)]
                                   ? static_cast<double>(at(x, t, i))
                                   : static_cast<double>(std::nearbyint(at(x, t, i) / sx)) * sx;
          const double term = value * static_cast<double>(std::nearbyint(at(w, n, i) / sw)) * sw;
          sum += term;
          size += std::fabs(term);
        }
        want.value.push_back(sum);
        want.bound.push_back(std::exp2(-24.0) * static_cast<double>(x.cols() + 6) * size);
      }
    }
  }
  EXPECT_GT(kept, 3) << "the test needs outliers";
  expect(how, want);
  // A sequence's columns do not depend on its neighbours in the batch.
  const Tensor alone = x.slice_rows(5, 36);
  const std::vector<Segment> one{{0, 31, -1}};
  EXPECT_LE(max_difference(product(*ops, alone, w, b, how, IntegerProducts::fake, one),
                           product(*ops, x, w, b, how, IntegerProducts::fake, segments).slice_rows(5, 36)),
            0.0);
}

TEST_F(ActivationQuantTest, NoOutliersIsPlainInt8) {
  auto how = integers(8);
  const Tensor plain = product(*ops, x, w, b, how, IntegerProducts::exact, segments);
  how.outlier_threshold = 100.0f;
  EXPECT_TRUE(testing::same_bits(product(*ops, x, w, b, how, IntegerProducts::exact, segments), plain));
}

}  // namespace
}  // namespace ptq

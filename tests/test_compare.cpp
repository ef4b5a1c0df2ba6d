// The comparator itself: a comparator that accepts a wrong result makes every other test worthless.
#include "compare.h"

#include "reference.h"

namespace ptq::testing {
namespace {

Expected around(std::vector<double> value, double bound) {
  const auto n = static_cast<std::int64_t>(value.size());
  return {{n}, std::move(value), std::vector<double>(static_cast<std::size_t>(n), bound)};
}

Tensor floats(std::vector<float> v) {
  const auto n = static_cast<std::int64_t>(v.size());
  return Tensor::of(v, {n});
}

TEST(Compare, AcceptsWithinTheBoundAndReportsItsUse) {
  const Comparison c = compare(floats({1.0f, 2.5f}), around({1.0, 2.0}, 1.0));
  EXPECT_TRUE(c);
  EXPECT_EQ(c.worst, 1);
  EXPECT_DOUBLE_EQ(c.used, 0.5);
}

TEST(Compare, RejectsNaN) { EXPECT_FALSE(compare(floats({NAN}), around({1.0}, 1e9))); }

TEST(Compare, RejectsNumberForNaN) { EXPECT_FALSE(compare(floats({1.0f}), around({NAN}, 1e9))); }

TEST(Compare, AcceptsEqualNonFinite) {
  EXPECT_TRUE(compare(floats({NAN, INFINITY, -INFINITY}), around({NAN, INFINITY, -INFINITY}, 0.0)));
}

TEST(Compare, RejectsInfinityOfTheWrongSignAndOverflow) {
  EXPECT_FALSE(compare(floats({-INFINITY}), around({INFINITY}, 1.0)));
  EXPECT_FALSE(compare(floats({INFINITY}), around({3e38}, 1e30)));
  EXPECT_FALSE(compare(floats({3e38f}), around({INFINITY}, 1e30)));
}

TEST(Compare, RejectsOneWrongElementInAMillion) {
  std::vector<float> got(1000000, 1.0f);
  got[765432] = 1.001f;
  const Comparison c = compare(floats(got), around(std::vector<double>(1000000, 1.0), 1e-4));
  EXPECT_EQ(c.wrong, 1);
  EXPECT_EQ(c.worst, 765432);
}

TEST(Compare, RejectsSignFlip) { EXPECT_FALSE(compare(floats({0.5f}), around({-0.5}, 0.9))); }

TEST(Compare, RejectsWrongShape) {
  EXPECT_FALSE(compare(floats({1.0f, 1.0f}), around({1.0}, 1.0)));
  EXPECT_FALSE(compare(floats({1.0f, 1.0f}).reshape({2, 1}), around({1.0, 1.0}, 1.0)));
}

TEST(Compare, ZeroReferenceWithZeroBoundAsksForEquality) {
  EXPECT_TRUE(compare(floats({0.0f}), around({0.0}, 0.0)));
  EXPECT_FALSE(compare(floats({1e-30f}), around({0.0}, 0.0)));
}

TEST(Compare, SameBitsSeesSignedZeroAndDtype) {
  EXPECT_TRUE(same_bits(floats({1.0f}), floats({1.0f})));
  EXPECT_FALSE(same_bits(floats({0.0f}), floats({-0.0f})));
  EXPECT_FALSE(same_bits(floats({1.0f}), floats({1.0f}).to(DType::bf16)));
}

// The bound itself must be small enough to notice a lost term and a sum done in half precision.
TEST(Compare, LinearBoundNoticesALostTermAndHalfSums) {
  const std::int64_t n = 4096;
  Tensor x = Tensor::empty(DType::f32, {1, n}), w = Tensor::empty(DType::f32, {1, n});
  for (std::int64_t i = 0; i < n; ++i) {
    x.data<float>()[i] = 1.0f + static_cast<float>(i % 7);
    w.data<float>()[i] = 1.0f + static_cast<float>(i % 5);
  }
  const Expected want = linear(x, w, {}, DType::f32);
  float all = 0.0f;
  _Float16 half = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    all += x.data<float>()[i] * w.data<float>()[i];
    half = static_cast<_Float16>(half + static_cast<_Float16>(x.data<float>()[i] * w.data<float>()[i]));
  }
  EXPECT_TRUE(near(floats({all}).reshape({1, 1}), want));
  EXPECT_FALSE(near(floats({all - 1.0f}).reshape({1, 1}), want));
  EXPECT_FALSE(near(floats({static_cast<float>(half)}).reshape({1, 1}), want));
}

}  // namespace
}  // namespace ptq::testing

// AWQ's scales, their search and clamping against values worked out by hand.
#include "quant/awq_block.h"
#include "quant_inputs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace ptq {
namespace {

TEST(AwqScales, AreThePowerOverTheGeometricMeanOfItsExtremes) {
  const ScaleStatistics s{.a = {4.0f, 1.0f, 16.0f}, .w = {}, .dead = DeadPolicy::zero};
  EXPECT_EQ(awq_scales(s, 0.0), std::vector<float>(3, 1.0f));
  const auto half = awq_scales(s, 0.5);  // 2, 1, 4 over sqrt(4 * 1)
  EXPECT_FLOAT_EQ(half[0], 1.0f);
  EXPECT_FLOAT_EQ(half[1], 0.5f);
  EXPECT_FLOAT_EQ(half[2], 2.0f);
}

TEST(AwqScales, DeadChannelsAreFlooredOrLeftAlone) {
  ScaleStatistics s{.a = {0.0f, 1.0f, 4.0f}, .w = {}, .dead = DeadPolicy::zero};
  EXPECT_EQ(awq_scales(s, 0.0), std::vector<float>(3, 1.0f));  // 0^0 = 1
  const auto floored = awq_scales(s, 0.5);                     // 1e-4, 1, 2 over sqrt(2e-4)
  EXPECT_FLOAT_EQ(floored[0], 1e-4f / std::sqrt(2e-4f));
  EXPECT_FLOAT_EQ(floored[2], 2.0f / std::sqrt(2e-4f));
  s.dead = DeadPolicy::rtn;
  const auto alone = awq_scales(s, 0.5);
  EXPECT_EQ(alone[0], 1.0f);
  EXPECT_FLOAT_EQ(alone[1], 1.0f / std::sqrt(2.0f));
  EXPECT_FLOAT_EQ(alone[2], std::sqrt(2.0f));
  s.a = {0.0f, 0.0f};
  EXPECT_EQ(awq_scales(s, 0.5), std::vector<float>(2, 1.0f));
}

TEST(AwqScales, DuoDividesByTheRelativeMagnitudeOfTheWeights) {
  const Tensor a = Tensor::of<float>({1, -2, 4, 8}, {1, 4}), b = Tensor::of<float>({2, 2, 0, -5}, {1, 4});
  const auto w = relative_magnitude(std::vector<Tensor>{a, b}, 2);  // groups {1,2} {4,8} and {2,2} {0,5}
  EXPECT_NEAR(w[0], (0.5 + 1.0) / 2, 1e-6);
  EXPECT_NEAR(w[1], (1.0 + 1.0) / 2, 1e-6);
  EXPECT_NEAR(w[2], (0.5 + 0.0) / 2, 1e-6);
  EXPECT_NEAR(w[3], (1.0 + 1.0) / 2, 1e-6);
  const ScaleStatistics s{.a = {1.0f, 1.0f, 1.0f, 4.0f}, .w = w, .dead = DeadPolicy::zero};
  const auto t = awq_scales(s, 0.5);
  const auto raw = [&](std::size_t k) { return std::sqrt(s.a[k]) / (std::sqrt(w[k]) + 1e-4); };
  EXPECT_NEAR(t[3] / t[0], raw(3) / raw(0), 1e-5);
  const auto [low, high] = std::minmax_element(t.begin(), t.end());
  EXPECT_NEAR(*low * *high, 1.0f, 1e-6);
}

TEST(AwqScales, TheFirstOfEqualLossesWins) {
  const ScaleStatistics s{.a = {1.0f, 2.0f}, .w = {}, .dead = DeadPolicy::zero};
  int calls = 0;
  const ScaleSearch found = search_scales(
      s, [&](std::span<const float>) { return ++calls < 4 ? 2.0 : 1.0; }, "w");
  EXPECT_EQ(calls, awq_ratios);
  EXPECT_EQ(found.best_ratio, 3 / 20.0);
  EXPECT_EQ(found.scales, awq_scales(s, 0.15));
  EXPECT_EQ(exit_of([&] {
              search_scales(
                  s, [](std::span<const float>) { return NAN; }, "w");
            }),
            Exit::numerics);
}

TEST(AwqClip, ClampsEachGroupOnBothSides) {
  const Tensor w = Tensor::of<float>({1, -3, 5, -7, 2, -2, 9, 0}, {2, 4});
  const Tensor clip = Tensor::of<float>({2, 6, 5, 4}, {2, 2});
  const Tensor out = clamp_groups(w, clip);
  const std::vector<float> want{1, -2, 5, -6, 2, -2, 4, 0};
  EXPECT_TRUE(std::equal(want.begin(), want.end(), out.data<float>()));
  EXPECT_EQ(clamp_groups(w, {}).raw(), w.raw());
}

}  // namespace
}  // namespace ptq

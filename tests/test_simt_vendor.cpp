// The kernels that finish what NVIDIA's libraries leave (cuda/vendor/finish.h): compared with the own kernels whose part
// they play, and with loops.
#include "cuda/vendor/finish.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

namespace ptq::cuda {
namespace {

std::vector<float> normal(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(n);
  for (float& v : x) v = normal(random);
  return x;
}

std::vector<std::int8_t> codes(std::int64_t rows, std::int64_t columns, std::int64_t stride, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::int8_t> x(static_cast<std::size_t>(rows * stride), 0);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < columns; ++c)
      x[static_cast<std::size_t>(r * stride + c)] = static_cast<std::int8_t>(random() % 255 - 127);
  }
  return x;
}

template <class Out>
void expect_bits_of_gemm_s8(DType type, std::int64_t rows, std::int64_t n, std::int64_t columns, std::int64_t outliers,
                            bool biased) {
  SCOPED_TRACE(testing::Message() << rows << " x " << n << ", " << outliers << " outliers");
  const std::int64_t stride = s8_stride(columns);
  const auto x = codes(rows, columns, stride, 1), w = codes(n, columns, stride, 2);
  const auto size = [](std::int64_t a, std::int64_t b) { return static_cast<std::size_t>(a * b); };
  const auto x_scales = normal(size(rows, 1), 3), w_scales = normal(size(n, 1), 4), bias = normal(size(n, 1), 5);
  const auto values = normal(size(rows, outliers), 6), columns_of_w = normal(size(outliers, s8_outlier_stride(n)), 7);
  std::vector<Out> own(size(rows + 1, n)), finished = own;  // the row behind y must stay
  std::vector<std::int32_t> sums(size(rows, n), 0);
  for (std::int64_t t = 0; t < rows; ++t) {
    for (std::int64_t j = 0; j < n; ++j) {
      for (std::int64_t k = 0; k < columns; ++k)
        sums[size(t, n) + static_cast<std::size_t>(j)] +=
            x[size(t, stride) + static_cast<std::size_t>(k)] * w[size(j, stride) + static_cast<std::size_t>(k)];
    }
  }
  GemmS8 g{own.data(),
           type,
           x.data(),
           x_scales.data(),
           w.data(),
           w_scales.data(),
           biased ? bias.data() : nullptr,
           outliers > 0 ? values.data() : nullptr,
           outliers > 0 ? columns_of_w.data() : nullptr,
           rows,
           n,
           stride,
           outliers};
  gemm_s8(g, nullptr);
  g.y = finished.data();
  g.x = g.w = nullptr;
  finish_s8(g, sums.data(), nullptr);
  EXPECT_EQ(std::memcmp(own.data(), finished.data(), own.size() * sizeof(Out)), 0);
}

TEST(SimtVendor, EpilogueOfInt8) {
  expect_bits_of_gemm_s8<float>(DType::f32, 5, 4, 37, 0, false);
  expect_bits_of_gemm_s8<bf16>(DType::bf16, 33, 300, 65, 3, true);
  expect_bits_of_gemm_s8<f16>(DType::f16, 1, 132, 16, 1, false);
}

TEST(SimtVendor, BiasIsAddedBeforeRounding) {
  constexpr std::int64_t rows = 3, n = 270;
  const auto sums = normal(rows * n, 1), bias = normal(n, 2);
  std::vector<bf16> y(rows * n);
  finish_biased(y.data(), DType::bf16, sums.data(), bias.data(), rows, n, nullptr);
  for (std::size_t i = 0; i < y.size(); ++i) ASSERT_EQ(y[i].bits, to_bf16(sums[i] + bias[i % n]).bits) << i;
}

TEST(SimtVendor, FactorKeepsTheUpperTriangle) {
  for (const std::int64_t n : {1, 7, 300}) {
    for (const int bad : {-1, 0, 2}) {
      const auto before = normal(static_cast<std::size_t>(n * n + n), 1);  // the row behind H must stay
      std::vector<float> h = before;
      std::vector<std::int32_t> infos(3, 0);
      if (bad >= 0) infos[static_cast<std::size_t>(bad)] = -4;
      std::int32_t failed = 0;
      finish_factor(h.data(), &failed, infos.data(), 3, n, nullptr);
      EXPECT_EQ(failed, bad >= 0 ? 1 : 0);
      for (std::int64_t i = 0; i < n * n + n; ++i) {
        const bool cleared = i % n < i / n && i < n * n;
        ASSERT_EQ(h[static_cast<std::size_t>(i)], cleared ? 0.0f : before[static_cast<std::size_t>(i)]) << i;
      }
    }
  }
}

}  // namespace
}  // namespace ptq::cuda

// One matrix by the methods that scale its columns, from a file and back: the result is what its codes say, the search
// never loses to no scaling, smoothing helps where inputs have outliers, and missing inputs are named.
#include "host/checkpoint.h"
#include "quant/matrix.h"
#include "quant/scaled_matrix.h"
#include "tests/quant_inputs.h"
#include "tests/temporary.h"

#include <algorithm>
#include <cmath>

namespace ptq {
namespace {

constexpr std::int64_t rows = 24, columns = 64, tokens = 200;

// Inputs with a few channels twenty times larger than the others.
Tensor with_outliers() {
  Tensor x = correlated(tokens, columns, 11);
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t k : {3, 20, 41}) x.data<float>()[t * columns + k] *= 20.0f;
  }
  return x;
}

// sum over tokens and rows of (x (q - w)^T)^2
double output_error(const Tensor& w, const Tensor& q, const Tensor& x) {
  double sum = 0;
  for (std::int64_t t = 0; t < x.rows(); ++t) {
    for (std::int64_t n = 0; n < w.rows(); ++n) {
      double y = 0;
      for (std::int64_t k = 0; k < w.cols(); ++k) {
        const std::int64_t i = n * w.cols() + k;
        y += static_cast<double>(x.data<float>()[t * w.cols() + k]) *
             (static_cast<double>(q.data<float>()[i]) - static_cast<double>(w.data<float>()[i]));
      }
      sum += y * y;
    }
  }
  return sum;
}

class ScaledMatrixFile : public testing::Test {
 protected:
  // Runs quantize_matrix on W and X and reads the result.
  std::unique_ptr<Checkpoint> run(const QuantSpec& spec) {
    write_safetensors(directory_ / "in.safetensors", {{"W", w_}, {"X", x_.reshape({4, tokens / 4, columns})}});
    report_ = quantize_matrix(ops(), directory_ / "in.safetensors", spec, directory_ / "out.safetensors");
    return open_safetensors(directory_ / "out.safetensors");
  }

  TemporaryDirectory directory_;
  Tensor w_ = gaussian(rows, columns, 7), x_ = with_outliers();
  MatrixReport report_;
};

TEST_F(ScaledMatrixFile, AwqSearchesOnTheMatrixsOutput) {
  for (AwqScaling scaling : {AwqScaling::activation, AwqScaling::duo}) {
    for (bool clip : {false, true}) {
      QuantSpec spec = defaults_of(Method::awq);
      spec.group = 16;
      spec.awq_scaling = scaling;
      spec.clip = clip;
      const auto out = run(spec);
      const Tensor q = out->read("Q", DType::f32), t = out->read("t", DType::f32), loss = out->read("loss", DType::f64);
      const Tensor codes = out->read("codes", DType::u8), scales = out->read("scales", DType::f32);
      const Tensor zeros = out->read("zeros", DType::f32);
      for (std::int64_t i = 0; i < q.numel(); ++i) {
        const std::int64_t k = i % columns, g = i / columns * (columns / 16) + k / 16;
        ASSERT_EQ(q.data<float>()[i], scales.data<float>()[g] *
                                          (static_cast<float>(codes.data<std::uint8_t>()[i]) - zeros.data<float>()[g]) /
                                          t.data<float>()[k]);
      }
      const auto losses = loss.span<double>();
      ASSERT_EQ(losses.size(), 20u);
      const auto best = std::min_element(losses.begin(), losses.end());
      EXPECT_EQ(report_.best_ratio, awq_ratio(static_cast<int>(best - losses.begin())));
      EXPECT_GT(report_.best_ratio, 0.0);
      if (clip) continue;
      // The reported loss is the mean squared error of the output; fp32 sums of 64 products.
      const double expected = output_error(w_, q, x_) / static_cast<double>(tokens * rows);
      EXPECT_NEAR(*best, expected, 1e-3 * expected);
      if (scaling == AwqScaling::activation) {  // ratio 0 is plain rounding
        QuantSpec rtn = spec;
        const Tensor one = Tensor::of(std::vector<float>(columns, 1.0f), {columns});
        const Tensor plain = ops().empty(DType::f32, w_.shape());
        ops().round_scaled(plain, ops().to_device(w_), ops().to_device(one), rtn.grid(), 16);
        const double unscaled = output_error(w_, ops().to_host(plain), x_) / static_cast<double>(tokens * rows);
        EXPECT_NEAR(losses[0], unscaled, 1e-3 * unscaled);
        EXPECT_LT(*best, 0.8 * unscaled);
      }
    }
  }
}

TEST_F(ScaledMatrixFile, SmoothQuantMovesOutliersIntoTheWeights) {
  QuantSpec spec = defaults_of(Method::smoothquant);
  spec.alpha = 0.5;
  const auto out = run(spec);
  const Tensor q = out->read("Q", DType::f32), t = out->read("t", DType::f32), codes = out->read("codes", DType::i8);
  const Tensor scales = out->read("scales", DType::f32);
  for (std::int64_t i = 0; i < q.numel(); ++i) {
    ASSERT_EQ(q.data<float>()[i], static_cast<float>(codes.data<std::int8_t>()[i]) * scales.data<float>()[i / columns] /
                                      t.data<float>()[i % columns]);
  }
  EXPECT_GT(t.data<float>()[3], 2.0f * t.data<float>()[4]);
  // Both operands quantized: the product of the smoothed ones is closer than that of the plain ones.
  const auto product_error = [&](const Tensor& weight, const Tensor& x) {
    const Tensor fake = ops().empty(DType::f32, x.shape());
    ops().fake_quantize_rows(fake, ops().to_device(x), 8);
    double sum = 0;
    const Tensor host = ops().to_host(fake);
    for (std::int64_t token = 0; token < tokens; ++token) {
      for (std::int64_t n = 0; n < rows; ++n) {
        double y = 0;
        for (std::int64_t k = 0; k < columns; ++k) {
          y += static_cast<double>(host.data<float>()[token * columns + k] * weight.data<float>()[n * columns + k]) -
               static_cast<double>(x_.data<float>()[token * columns + k] * w_.data<float>()[n * columns + k]);
        }
        sum += y * y;
      }
    }
    return sum;
  };
  const Tensor smooth_weight = q.clone(), smooth_x = x_.clone();
  for (std::int64_t i = 0; i < q.numel(); ++i) smooth_weight.data<float>()[i] *= t.data<float>()[i % columns];
  for (std::int64_t i = 0; i < x_.numel(); ++i) smooth_x.data<float>()[i] /= t.data<float>()[i % columns];
  const Tensor plain = run(defaults_of(Method::w8a8))->read("Q", DType::f32);
  EXPECT_LT(product_error(smooth_weight, smooth_x), 0.5 * product_error(plain, x_));
}

TEST_F(ScaledMatrixFile, Refusals) {
  QuantSpec spec = defaults_of(Method::awq);
  spec.group = 48;
  expect_error(Exit::usage, "--group 48", [&] { run(spec); });
  spec.group = 16;
  write_safetensors(directory_ / "in.safetensors", {{"W", w_}});
  expect_error(Exit::data, "no tensor X",
               [&] { quantize_matrix(ops(), directory_ / "in.safetensors", spec, directory_ / "o.safetensors"); });
  x_.data<float>()[5] = NAN;
  expect_error(Exit::numerics, "tensor X", [&] { run(spec); });
}

TEST_F(ScaledMatrixFile, Nf4HasBlocksInsteadOfGroups) {
  const auto out = run(defaults_of(Method::nf4));
  EXPECT_EQ(out->tensors().at("scales").shape, Shape({rows * columns / 64, 1}));
  EXPECT_FALSE(out->tensors().contains("zeros"));
  EXPECT_FALSE(out->tensors().contains("g_idx"));
  EXPECT_GT(report_.relative_error, 0.0);
  EXPECT_LT(report_.relative_error, 0.02);
}

}  // namespace
}  // namespace ptq

// Round to nearest, W8A8, the parameters of the quantizers, and quantization of one matrix from a file.
#include "host/checkpoint.h"
#include "host/files.h"
#include "quant/matrix.h"
#include "quant/rtn.h"
#include "quant/scheme.h"
#include "quant/w8a8.h"
#include "tests/quant_inputs.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

namespace ptq {
namespace {

TEST(Rtn, EveryGroupOnItsOwnGrid) {
  for (std::int64_t group : {std::int64_t{-1}, std::int64_t{8}, std::int64_t{10}, std::int64_t{100}}) {
    for (bool symmetric : {false, true}) {
      const QuantSpec spec = gptq_spec(4, group, symmetric);
      const Tensor w = gaussian(6, 36, 91);
      const QuantizedMatrix m = quantize_rtn(ops(), w, spec);
      const std::int64_t width = group == -1 ? 36 : group;
      ASSERT_EQ(m.scales.cols(), (36 + width - 1) / width);
      for (std::int64_t n = 0; n < 6; ++n) {
        for (std::int64_t begin = 0; begin < 36; begin += width) {
          const std::int64_t end = std::min<std::int64_t>(36, begin + width);
          const float* row = w.data<float>() + n * 36;
          const GridPoint grid = grid_of_range(*std::min_element(row + begin, row + end),
                                               *std::max_element(row + begin, row + end), spec.grid());
          for (std::int64_t k = begin; k < end; ++k) {
            ASSERT_EQ(m.q.data<float>()[n * 36 + k], value_of(code_of(row[k], grid, 15.0f), grid));
          }
        }
      }
    }
  }
}

TEST(Rtn, MseSearchNeverLosesToTheFullRange) {
  QuantSpec spec = gptq_spec(3, 16, false);
  spec.method = Method::rtn;
  const Tensor w = gaussian(8, 64, 101);
  const Tensor full = quantize_rtn(ops(), w, spec).q;
  spec.mse = true;
  const Tensor searched = quantize_rtn(ops(), w, spec).q;
  bool better = false;
  for (std::int64_t begin = 0; begin < w.numel(); begin += 16) {
    double a = 0, b = 0;
    for (std::int64_t i = begin; i < begin + 16; ++i) {
      a += std::pow(std::fabs(full.data<float>()[i] - w.data<float>()[i]), 2.4);
      b += std::pow(std::fabs(searched.data<float>()[i] - w.data<float>()[i]), 2.4);
    }
    EXPECT_LE(b, a * (1 + 1e-5));
    better = better || b < 0.99 * a;
  }
  EXPECT_TRUE(better);
}

TEST(W8a8, QuantizingTwiceKeepsTheCodes) {
  Tensor w = gaussian(40, 200, 111);
  std::fill_n(w.data<float>(), 200, 0.0f);                                   // an all-zero row
  for (std::int64_t k = 0; k < 200; ++k) w.data<float>()[200 + k] *= 1e-7f;  // below the floor of the scale
  for (int bits : {2, 3, 4, 6, 8}) {
    for (bool per_tensor : {false, true}) {
      const QuantizedMatrix once = quantize_absmax(ops(), w, bits, per_tensor);
      for (DType stored : {DType::f32, DType::f16}) {
        const QuantizedMatrix twice = quantize_absmax(ops(), once.q.to(stored).to(DType::f32), bits, per_tensor);
        // float16 has no room for values near 1e-10: only rows of ordinary size are compared there.
        for (std::int64_t i = stored == DType::f16 ? 400 : 0; i < w.numel(); ++i) {
          ASSERT_EQ(once.codes.data<std::int8_t>()[i], twice.codes.data<std::int8_t>()[i])
              << bits << " " << per_tensor << " " << name_of(stored) << " " << i;
        }
      }
      for (std::int64_t i = 400; i < w.numel(); ++i) {
        const float scale = once.scales.data<float>()[i / 200];
        ASSERT_NEAR(once.q.data<float>()[i], w.data<float>()[i], 0.501f * scale);
        ASSERT_LE(std::abs(once.codes.data<std::int8_t>()[i]), (1 << (bits - 1)) - 1);
        if (per_tensor) {
          ASSERT_EQ(scale, once.scales.data<float>()[0]);
        }
      }
    }
  }
}

TEST(Scheme, NamesAndChecks) {
  EXPECT_EQ(scheme_name(QuantSpec{}), "w4a16-g128-sym");
  QuantSpec spec = gptq_spec(3, -1, false);
  spec.act_order = spec.static_groups = true;
  EXPECT_EQ(scheme_name(spec), "w3a16-row-asym-act-static");
  EXPECT_EQ(scheme_name(defaults_of(Method::w8a8)), "w8a8");
  for (Method m : {Method::rtn, Method::gptq, Method::w8a8}) {
    EXPECT_EQ(parse_method(name_of(m)), m);
    EXPECT_EQ(exit_of([&] { validate(defaults_of(m)); }), Exit::ok);
  }
  EXPECT_EQ(exit_of([] { parse_method("gtpq"); }), Exit::usage);
  EXPECT_EQ(exit_of([] { parse_dead(""); }), Exit::usage);
  const auto refused = [](auto&& change) {
    QuantSpec s;
    change(s);
    return exit_of([&] { validate(s); }) == Exit::usage;
  };
  EXPECT_TRUE(refused([](QuantSpec& s) { s.bits = 1; }));
  EXPECT_TRUE(refused([](QuantSpec& s) { s.bits = 9; }));
  EXPECT_TRUE(refused([](QuantSpec& s) { s.group = 0; }));
  EXPECT_TRUE(refused([](QuantSpec& s) { s.group = -2; }));
  EXPECT_TRUE(refused([](QuantSpec& s) { s.damp = -0.1; }));
  EXPECT_TRUE(refused([](QuantSpec& s) { s.damp = std::nan(""); }));
  EXPECT_TRUE(refused([](QuantSpec& s) { s.method = Method::rtn, s.act_order = true; }));
  EXPECT_TRUE(refused([](QuantSpec& s) { s.method = Method::w8a8; }));  // 4 bits
}

class MatrixFile : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = std::filesystem::temp_directory_path() / fmt::format("ptq-matrix-{}", ::getpid());
    std::filesystem::create_directory(directory_);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  Exit run(const std::map<std::string, Tensor>& tensors, const QuantSpec& spec) {
    write_safetensors(directory_ / "in.safetensors", tensors);
    return exit_of(
        [&] { quantize_matrix(ops(), directory_ / "in.safetensors", spec, directory_ / "out.safetensors"); });
  }

  std::filesystem::path directory_;
};

TEST_F(MatrixFile, InputsAndHessianAgree) {
  const Tensor w = gaussian(6, 48, 121), x = correlated(96, 48, 122);
  QuantSpec spec = gptq_spec(4, 16, false);
  spec.act_order = true;
  ASSERT_EQ(run({{"W", w}, {"X", x.reshape({4, 24, 48})}}, spec), Exit::ok);
  const auto first = open_safetensors(directory_ / "out.safetensors");
  const Tensor q = first->read("Q", DType::f32), perm = first->read("perm", DType::i32);
  EXPECT_EQ(first->tensors().at("codes").shape, Shape({6, 48}));
  EXPECT_EQ(first->tensors().at("scales").shape, Shape({6, 3}));
  EXPECT_EQ(first->tensors().at("g_idx").shape, Shape({48}));
  EXPECT_EQ(first->tensors().at("err_rows").shape, Shape({6}));

  Tensor h = Tensor::zeros(DType::f32, {48, 48});
  for (std::int64_t i = 0; i < 48; ++i) {
    for (std::int64_t j = 0; j < 48; ++j) {
      double sum = 0;
      for (std::int64_t t = 0; t < 96; ++t)
        sum += static_cast<double>(x.data<float>()[t * 48 + i]) * static_cast<double>(x.data<float>()[t * 48 + j]);
      h.data<float>()[i * 48 + j] = static_cast<float>(2.0 / 4.0 * sum);
    }
  }
  ASSERT_EQ(run({{"W", w}, {"H", h}}, spec), Exit::ok);
  const Tensor again = open_safetensors(directory_ / "out.safetensors")->read("Q", DType::f32);
  for (std::int64_t i = 0; i < q.numel(); ++i) ASSERT_NEAR(q.data<float>()[i], again.data<float>()[i], 1e-4f);

  h.data<float>()[5 * 48 + 3] = 0.0f;  // a triangle missing
  EXPECT_EQ(run({{"W", w}, {"H", h}}, spec), Exit::data);
}

TEST_F(MatrixFile, BadInput) {
  const Tensor w = gaussian(2, 4, 131), x = gaussian(8, 4, 132);
  const QuantSpec spec = gptq_spec(4, -1, true);
  EXPECT_EQ(run({{"X", x}}, spec), Exit::data);
  EXPECT_EQ(run({{"W", w}}, spec), Exit::data);
  EXPECT_EQ(run({{"W", w.reshape({8})}, {"X", x}}, spec), Exit::data);
  EXPECT_EQ(run({{"W", w}, {"X", gaussian(8, 5, 133)}}, spec), Exit::data);
  EXPECT_EQ(run({{"W", w}, {"H", gaussian(4, 5, 134)}}, spec), Exit::data);
  Tensor infinite = x.clone();
  infinite.data<float>()[3] = INFINITY;
  EXPECT_EQ(run({{"W", w}, {"X", infinite}}, spec), Exit::numerics);
  QuantSpec per_token = spec;
  per_token.hessian_norm = HessianNorm::per_token;
  EXPECT_EQ(run({{"W", w}, {"H", Tensor::of<float>(std::vector<float>(16, 1.0f), {4, 4})}}, per_token), Exit::usage);
  EXPECT_EQ(exit_of([&] { quantize_matrix(ops(), directory_ / "absent", spec, directory_ / "out.safetensors"); }),
            Exit::missing);
  EXPECT_FALSE(std::filesystem::exists(directory_ / "out.safetensors"));
}

}  // namespace
}  // namespace ptq

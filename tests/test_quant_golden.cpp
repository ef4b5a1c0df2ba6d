// Single matrices against outputs of the reference implementations (golden/quant, whose README has the tolerances).
#include "host/checkpoint.h"
#include "host/files.h"
#include "quant/gptq.h"
#include "quant/w8a8.h"
#include "tests/device.h"
#include "tests/golden_path.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace ptq {
namespace {

namespace fs = std::filesystem;

double frobenius_error(const Tensor& a, const Tensor& b) { return std::sqrt(relative_error(b, a)); }

// --- one layer ---------------------------------------------------------------------------------------------------

QuantSpec spec_of(const nlohmann::json& c) {
  QuantSpec spec;
  spec.symmetric = c.at("symmetric");
  spec.group = c.at("group_size");
  spec.act_order = c.at("act_order");
  spec.static_groups = c.at("static_groups");
  spec.damp = c.at("percdamp");
  spec.mse = c.at("mse");
  return spec;
}

class GptqLayer : public testing::TestWithParam<const char*> {};

TEST_P(GptqLayer, MatchesTheReference) {
  PTQ_NEED(golden, "PTQ_GOLDEN", "quant");
  const fs::path base = golden / "gptq_layer" / GetParam();
  const auto file = open_safetensors(base.string() + ".safetensors");
  const nlohmann::json info = read_json(base.string() + ".json", "golden");
  const auto has = [&](const std::string& name) { return file->tensors().contains(name); };
  const Tensor w = file->read("W", DType::f32), h = file->read("H", DType::f32);
  const std::int64_t k = w.cols();

  Tensor inputs = has("X") ? file->read("X", DType::f32) : Tensor();
  const auto accumulated = [&] {
    Hessian hessian(ops(), k);
    for (std::int64_t s = 0; s < inputs.dim(0); ++s) {
      hessian.add(ops().to_device(inputs.slice_rows(s, s + 1).reshape({inputs.dim(1), k})), 1);
    }
    return hessian;
  };
  if (inputs) {
    Hessian hessian = accumulated();
    const Tensor ours = hessian.finish(HessianNorm::per_sequence);
    for (std::int64_t i = 0; i < k; ++i) {
      for (std::int64_t j = i; j < k; ++j) {
        // fp32 sums of T products: relative to the product of the columns' sizes.
        const float size = std::sqrt(h.data<float>()[i * k + i] * h.data<float>()[j * k + j]);
        ASSERT_NEAR(ours.data<float>()[i * k + j], h.data<float>()[i * k + j], 2e-5f * size + 1e-30f);
      }
    }
  }

  int cases = 0;
  for (const auto& [name, parameters] : info.at("cases").items()) {
    SCOPED_TRACE(name + " " + parameters.dump().substr(0, 120));
    const QuantSpec spec = spec_of(parameters);
    for (bool from_inputs : {false, true}) {
      if (from_inputs && (!inputs || ++cases > 6)) continue;
      Hessian hessian = from_inputs ? accumulated() : Hessian::of_matrix(ops(), h.clone());
      const HessianFactor factor = factor_hessian(ops(), hessian, spec, name);
      const QuantizedMatrix m = quantize_gptq(ops(), w, factor, spec);
      EXPECT_EQ(factor.dead_columns, parameters.at("dead").get<std::int64_t>());
      EXPECT_NEAR(factor.damp_added, parameters.at("damp_added").get<double>(), 1e-5 * factor.damp_added);
      EXPECT_EQ(factor.retries, 0);

      // Dead columns come in any order among themselves: compare codes of live ones, and q = 0 for the others.
      const Tensor codes = file->read(name + ".codes", DType::u8), g_idx = file->read(name + ".g_idx", DType::i32);
      std::int64_t equal = 0, live = 0;
      for (std::int64_t i = 0; i < w.numel(); ++i) {
        const bool dead = factor.dead[static_cast<std::size_t>(i % k)] != 0;
        if (dead) {
          ASSERT_EQ(m.q.data<float>()[i], 0.0f);
        }
        live += !dead;
        equal += !dead && codes.data<std::uint8_t>()[i] == m.codes.data<std::uint8_t>()[i];
      }
      const double rate = static_cast<double>(equal) / static_cast<double>(live);
      EXPECT_GE(rate, spec.symmetric ? 0.995 : 0.999);
      double error = 0;
      for (double e : m.err_rows.span<double>()) error += e;
      const double expected = parameters.at("total_error");
      EXPECT_NEAR(error, expected, (spec.symmetric ? 5e-3 : 1e-4) * expected);
      for (std::int64_t c = 0; c < k; ++c) {
        if (factor.dead[static_cast<std::size_t>(c)]) continue;
        ASSERT_EQ(m.g_idx.data<std::int32_t>()[c], g_idx.data<std::int32_t>()[c]) << "column " << c;
      }
      if (from_inputs) continue;
      if (rate == 1.0) {
        const Tensor scales = file->read(name + ".scales", DType::f32), zeros = file->read(name + ".zeros", DType::f32);
        ASSERT_EQ(scales.shape(), m.scales.shape());
        EXPECT_LT(frobenius_error(m.scales, scales), 1e-5);
        EXPECT_EQ(frobenius_error(m.zeros, zeros), 0.0);
        if (has(name + ".Q")) {
          EXPECT_LT(frobenius_error(m.q, file->read(name + ".Q", DType::f32)), 1e-5);
        }
      }
      if (spec.act_order) {
        const Tensor perm = file->read(name + ".perm", DType::i32);
        for (std::int64_t j = 0; j < k; ++j) {
          const std::int32_t theirs = perm.data<std::int32_t>()[j];
          if (!factor.dead[static_cast<std::size_t>(theirs)]) {
            ASSERT_EQ(m.perm.data<std::int32_t>()[j], theirs);
          }
        }
      }
      if (has(name + ".U") && factor.dead_columns == 0) {
        // Two fp32 factorisations differ by the condition number, at most trace / damping, times the unit roundoff.
        double trace = 0;
        for (std::int64_t i = 0; i < k; ++i) trace += static_cast<double>(h.data<float>()[i * k + i]);
        const double condition = trace / factor.damp_added + static_cast<double>(k);
        EXPECT_LT(frobenius_error(ops().to_host(factor.u), file->read(name + ".U", DType::f32)), condition * 0x1p-24);
      }
    }
  }
  EXPECT_GT(info.at("cases").size(), 2u);
}

INSTANTIATE_TEST_SUITE_P(Golden, GptqLayer, testing::Values("L1", "L2", "L3", "L4", "L5", "L6"),
                         [](const auto& test) { return std::string(test.param); });

// --- W8A8 --------------------------------------------------------------------------------------------------------

class W8a8Linear : public testing::TestWithParam<const char*> {};

TEST_P(W8a8Linear, MatchesTheReference) {
  PTQ_NEED(golden, "PTQ_GOLDEN", "quant");
  const auto file = open_safetensors(golden / "w8a8" / (std::string(GetParam()) + ".safetensors"));
  const Tensor w = file->read("W", DType::f32), bias = file->read("bias", DType::f32);
  Tensor x = file->read("X", DType::f32);
  x = x.reshape({x.rows(), x.cols()});

  // A code is the fake-quantized value over its scale; an fp32 quotient of ours and theirs rounds to the same integer.
  const auto codes_equal = [](const Tensor& codes, const Tensor& scales, const Tensor& fake) {
    std::int64_t equal = 0;
    for (std::int64_t i = 0; i < fake.numel(); ++i) {
      const float scale = scales.data<float>()[i / fake.cols()];
      equal += std::nearbyint(fake.data<float>()[i] / scale) == static_cast<float>(codes.data<std::int8_t>()[i]);
    }
    return static_cast<double>(equal) / static_cast<double>(fake.numel());
  };
  const auto absmax = [](const Tensor& t) {
    float largest = 0;
    for (float v : t.span<float>()) largest = std::max(largest, std::fabs(v));
    return largest;
  };
  for (const bool weight_tensor : {false, true}) {
    const std::string weight_name = weight_tensor ? "per_tensor" : "per_channel";
    const QuantizedMatrix m = quantize_absmax(ops(), w, 8, weight_tensor);
    const Tensor fake_weight = file->read("weight." + weight_name, DType::f32);
    EXPECT_GE(codes_equal(m.codes, m.scales, fake_weight), 0.999);
    EXPECT_LT(frobenius_error(m.q, fake_weight), 1e-6);

    for (const bool act_tensor : {false, true}) {
      const std::string act_name = act_tensor ? "per_tensor" : "per_token";
      const auto range_of = [&](const Tensor& t) {
        if (!act_tensor) return Tensor();
        return ops().to_device(
            Tensor::of(std::vector<float>(static_cast<std::size_t>(t.rows()), absmax(t)), {t.rows()}));
      };
      const Int8Rows rows = ops().quantize_rows(ops().to_device(x), 8, range_of(x));
      const Tensor fake_input = file->read("act." + act_name, DType::f32);
      EXPECT_GE(codes_equal(ops().to_host(rows.codes), ops().to_host(rows.scales), fake_input), 0.999);

      const std::string name = "y." + weight_name + "." + act_name;
      const Tensor expected = file->read(name + ".noutq", DType::f32);
      const float largest = absmax(expected);
      const Tensor y = ops().empty(DType::f32, {x.rows(), w.rows()});
      ops().linear_s8(y, rows, *ops().pack_s8(m.codes, m.scales.reshape({w.rows()})), ops().to_device(bias));
      const Tensor host = ops().to_host(y);
      for (std::int64_t i = 0; i < expected.numel(); ++i) {
        ASSERT_NEAR(host.data<float>()[i], expected.data<float>()[i], 1e-5f * largest) << name << " " << i;
      }
      // Outputs quantized as inputs of attention's products: a rounding difference may flip a code, by one step.
      const Tensor expected_q = file->read(name + ".outq", DType::f32);
      ops().fake_quantize_rows(y, y, 8, range_of(host));
      const Tensor host_q = ops().to_host(y);
      std::int64_t flipped = 0;
      for (std::int64_t i = 0; i < expected.numel(); ++i) {
        const float difference = std::fabs(host_q.data<float>()[i] - expected_q.data<float>()[i]);
        ASSERT_LE(difference, 1.01f * largest / 127) << name << " " << i;
        flipped += difference > 1e-4f * largest;
      }
      EXPECT_LE(static_cast<double>(flipped), 1e-3 * static_cast<double>(expected.numel())) << name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, W8a8Linear, testing::Values("linear_a", "linear_b"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace ptq

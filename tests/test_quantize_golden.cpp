// Whole quantized models against the reference implementations (golden/quant, whose README has the tolerances).
// PTQ_MODELS has stories260K; PTQ_SMOLLM2_REGAUGED is a SmolLM2-135M directory converted with regauge seed 1.
#include "device.h"
#include "golden_models.h"
#include "golden_path.h"
#include "host/checkpoint.h"
#include "host/files.h"
#include "quant/quantize_checkpoint.h"
#include "quant/rtn.h"
#include "temporary.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace ptq {
namespace {

namespace fs = std::filesystem;

double fraction_equal(const Tensor& a, const Tensor& b) {
  std::int64_t equal = 0;
  for (std::int64_t i = 0; i < a.numel(); ++i) equal += a.data<std::uint8_t>()[i] == b.data<std::uint8_t>()[i];
  return static_cast<double>(equal) / static_cast<double>(a.numel());
}

double frobenius_error(const Tensor& a, const Tensor& b) { return std::sqrt(relative_error(b, a)); }

// --- whole models ------------------------------------------------------------------------------------------------

// Mean next-token negative log-likelihood, first token of every window not scored.
double mean_nll(const fs::path& directory, std::span<const Window> windows) {
  Transformer model(std::make_shared<const ModelFiles>(ModelFiles::open(directory)), ops(), DType::f32);
  model.load_all();
  double sum = 0;
  for (const Window& window : windows) {
    Batch batch;
    batch.append(window);
    std::vector<Target> targets;
    for (std::size_t t = 1; t < window.size(); ++t) targets.push_back({static_cast<std::int32_t>(t - 1), window[t]});
    double nll = 0;
    for (double logprob : model.token_logprobs(model.forward(batch), targets)) nll -= logprob;
    sum += nll / static_cast<double>(targets.size());
  }
  return sum / static_cast<double>(windows.size());
}

class GptqModel : public testing::TestWithParam<const char*> {};

TEST_P(GptqModel, MatchesTheReference) {
  PTQ_NEED(golden, "PTQ_GOLDEN", "quant");
  const std::string name = GetParam();
  const bool stories = name.starts_with("stories");
  fs::path source = golden / "models/tiny_opt_seed11";
  if (stories) {
    PTQ_NEED(models, "PTQ_MODELS", "stories260K");
    source = models;
  }
  const fs::path base = golden / "gptq_model";
  const nlohmann::json info = read_json(base / (name + ".json"), "golden");
  const auto file = open_safetensors(base / (name + ".safetensors"));
  const auto tokens = open_safetensors(base / (stories ? "stories_tokens.safetensors" : "opt_tokens.safetensors"));
  const nlohmann::json& arguments = info.at("arguments");
  QuantSpec spec;
  spec.symmetric = arguments.at("sym");
  spec.group = arguments.at("groupsize");
  spec.act_order = arguments.at("act_order");
  spec.static_groups = arguments.at("static_groups");
  spec.true_sequential = arguments.value("true_sequential", false);  // the reference's opt.py has no such mode
  spec.damp = info.at("percdamp");

  const auto calibration = rows_of(tokens->read("calibration", DType::i32));
  const auto eval = rows_of(tokens->read("eval", DType::i32));
  EXPECT_NEAR(mean_nll(source, eval), info.at("nll_before").get<double>(), 1e-4);

  const auto files = std::make_shared<const ModelFiles>(ModelFiles::open(source));
  double equal = 0, total = 0;
  QuantSink sink;
  sink.linear = [&](int layer, LinearRole role, const QuantizedMatrix& m) {
    const std::string module = files->linear_ref(layer, role).module;
    const double rate = fraction_equal(m.codes, file->read(module + ".codes", DType::u8));
    equal += rate * static_cast<double>(m.codes.numel());
    total += static_cast<double>(m.codes.numel());
    const bool first = layer == 0 && (role == LinearRole::q || role == LinearRole::k || role == LinearRole::v);
    if (first) {
      EXPECT_GE(rate, 0.995) << module;
    }
  };
  const QuantizeReport report = quantize_linears(files, ops(), spec, DType::f32, calibration, sink);
  EXPECT_GE(equal / total, spec.symmetric ? 0.95 : 0.995);
  for (const LinearHealth& l : report.linears) {
    EXPECT_EQ(l.dead_columns, info.at("dead_columns").at(l.module).get<std::int64_t>()) << l.module;
  }

  const TemporaryDirectory directory;
  const QuantizeJob job{source, directory / "out", false, spec, DType::f32, ExportFormat::fake};
  quantize_checkpoint(ops(), job, calibration, nullptr);
  const double nll = mean_nll(directory / "out", eval);
  EXPECT_NEAR(nll, info.at("nll_after").get<double>(), spec.symmetric ? 2e-2 : 1e-3);
  std::printf("%s: codes equal %.4f%%, nll %.6f (reference %.6f)\n", name.c_str(), 100 * equal / total, nll,
              info.at("nll_after").get<double>());
}

INSTANTIATE_TEST_SUITE_P(Golden, GptqModel,
                         testing::Values("stories_sym_g64_ts", "stories_sym_g64_nots", "stories_asym_g32_ts_act",
                                         "stories_asym_g64_nots_act", "stories_asym_gm1_ts_damp10",
                                         "stories_sym_g32_ts_act_static", "opt_sym_g64", "opt_asym_g32_act"),
                         [](const auto& test) { return std::string(test.param); });

// --- all kinds of directories ------------------------------------------------------------------------------------

// Every kind of directory that can be read can be quantized, and what is written reads back as what was computed:
// fused tensors (Phi-3), shards, .bin files, names without "model.".
class AnyFamily : public testing::TestWithParam<const char*> {};

TEST_P(AnyFamily, RoundTrips) {
  PTQ_NEED(golden, "PTQ_GOLDEN", "models");
  const fs::path source = golden / GetParam();
  const TemporaryDirectory temporary;
  QuantizeJob job{source, temporary / "out", false, defaults_of(Method::rtn), DType::f32, ExportFormat::fake};
  job.spec.group = -1;
  quantize_checkpoint(ops(), job, {}, nullptr);
  const ModelFiles before = ModelFiles::open(source), after = ModelFiles::open(temporary / "out");
  for (int layer = 0; layer < before.config().layers; ++layer) {
    for (LinearRole role : all_linear_roles) {
      if (!before.has_linear(role)) continue;
      const Tensor expected = quantize_rtn(ops(), before.linear_weight(layer, role, DType::f32), job.spec).q;
      EXPECT_EQ(frobenius_error(after.linear_weight(layer, role, DType::f32), expected), 0.0);
    }
  }
  EXPECT_EQ(frobenius_error(after.embedding(DType::f32), before.embedding(DType::f32)), 0.0);
  EXPECT_EQ(frobenius_error(after.head(DType::f32), before.head(DType::f32)), 0.0);
}

INSTANTIATE_TEST_SUITE_P(Golden, AnyFamily,
                         testing::Values("phi3", "opt-bin-sharded", "opt-decoder-names", "opt-350m-like",
                                         "cohere-rplus", "gemma3", "llama2"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

// --- SmolLM2-135M ------------------------------------------------------------------------------------------------

class SmolLm2 : public testing::Test {
 protected:
  // Mean NLL on the 40 stored windows after `spec`, and the report.
  std::pair<double, QuantizeReport> run(const fs::path& source, const fs::path& golden, const QuantSpec& spec) {
    const nlohmann::json tokens = read_json(golden / "smollm2_regauged/tokens.json", "golden");
    const TemporaryDirectory directory;
    QuantizeReport report =
        quantize_checkpoint(ops(), {source, directory / "out", false, spec, DType::f32, ExportFormat::fake},
                            tokens.at("c4").get<std::vector<Window>>(), nullptr);
    return {mean_nll(directory / "out", tokens.at("wiki40").get<std::vector<Window>>()), std::move(report)};
  }
};

TEST_F(SmolLm2, Rtn) {
  PTQ_NEED(golden, "PTQ_GOLDEN", "quant");
  PTQ_NEED(source, "PTQ_SMOLLM2_REGAUGED", "");
  QuantSpec spec = defaults_of(Method::rtn);
  spec.group = 64;
  const nlohmann::json info = read_json(golden / "smollm2_regauged/rtn_sym.json", "golden");
  EXPECT_NEAR(run(source, golden, spec).first, info.at("mean_nll").get<double>(), 1e-3);
}

TEST_F(SmolLm2, Gptq) {
  PTQ_NEED(golden, "PTQ_GOLDEN", "quant");
  PTQ_NEED(source, "PTQ_SMOLLM2_REGAUGED", "");
  for (bool symmetric : {true, false}) {
    const nlohmann::json info =
        read_json(golden / "smollm2_regauged" / (symmetric ? "gptq_c4.json" : "gptq_c4_asym.json"), "golden");
    QuantSpec spec;
    spec.group = 64;
    spec.symmetric = symmetric;
    const auto [nll, report] = run(source, golden, spec);
    EXPECT_NEAR(nll, info.at("mean_nll").get<double>(), 0.1);
    double sum = 0;
    for (const auto& [name, error] : info.at("error").items()) sum += error.get<double>();
    EXPECT_NEAR(report.error(), sum, 0.1 * sum);
    for (const LinearHealth& l : report.linears) {
      if (l.layer > 0 || (l.role != LinearRole::q && l.role != LinearRole::k && l.role != LinearRole::v)) continue;
      const double expected = info.at("error").at(l.module.substr(std::string("model.layers.").size()));
      EXPECT_NEAR(l.error, expected, 1e-3 * expected) << l.module;
    }
    const Seconds& s = report.seconds;
    std::printf(
        "%s: nll %.6f (reference %.6f), error %.6g (%.6g); load %.1f forward %.1f hessian %.1f factor %.1f sweep %.1f "
        "write %.1f s\n",
        symmetric ? "sym" : "asym", nll, info.at("mean_nll").get<double>(), report.error(), sum, s.load, s.forward,
        s.hessian, s.factor, s.sweep, s.write);
  }
}

}  // namespace
}  // namespace ptq

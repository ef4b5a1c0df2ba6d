// SmoothQuant: smoothing changes no function, ranges describe what the smoothed block really sees, families without a
// place for the scales are refused, and static ranges reach the running model.
#include "model/transformer.h"
#include "quant/quantize_checkpoint.h"
#include "quant/smoothquant.h"
#include "tests/quant_inputs.h"
#include "tests/rms.h"
#include "tests/temporary.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace ptq {
namespace {

namespace fs = std::filesystem;

fs::path in_tree(const std::string& name) { return fs::path(PTQ_SOURCE_DIR) / "tests/golden/models" / name; }

std::shared_ptr<const ModelFiles> open(const fs::path& directory) {
  return std::make_shared<const ModelFiles>(ModelFiles::open(directory));
}

std::vector<Window> random_windows(const ModelConfig& config, std::size_t count, std::size_t length) {
  std::mt19937 random(3);
  std::vector<Window> windows(count, Window(length));
  for (Window& w : windows) {
    for (auto& id : w) id = static_cast<std::int32_t>(random() % static_cast<unsigned>(config.vocab));
  }
  return windows;
}

double rms(const Tensor& a) { return rms(a, Tensor::zeros(DType::f32, a.shape())); }

TEST(SmoothQuant, ScalesFollowTheFormula) {
  const std::vector<float> a{0.5f, 30.0f, 0.0f, 1e-12f, 2.0f}, b{0.25f, 1e-9f, 0.3f, 4.0f, 0.1f};
  for (double alpha : {0.0, 0.5, 0.85, 1.0}) {
    const std::vector<float> t = smoothing_scales(a, b, alpha);
    for (std::size_t k = 0; k < a.size(); ++k) {
      const double weight = std::max(static_cast<double>(b[k]), 1e-5);
      const double expected =
          std::max(std::pow(static_cast<double>(a[k]), alpha) / std::pow(weight, 1.0 - alpha), 1e-5);
      EXPECT_NEAR(t[k], expected, 1e-6 * expected) << alpha << " " << k;
    }
  }
  EXPECT_EQ(smoothing_scales(a, b, 0.5)[2], 1e-5f);  // never seen
}

class Smoothing : public testing::TestWithParam<const char*> {};

TEST_P(Smoothing, KeepsTheFunctionAndPredictsTheRanges) {
  const auto files = open(in_tree(GetParam()));
  const Transformer model(files, ops(), DType::f32);
  const ModelConfig& config = model.config();
  int visited = 0;
  const auto visit = [&](int layer, const Block& block, std::span<Stream> streams) {
    ++visited;
    std::vector<Tensor> before;
    for (const Stream& s : streams) before.push_back(ops().to_device(ops().to_host(s.h).clone()));
    Seconds seconds;
    BlockRanges ranges = measure_ranges(model, layer, block, streams, false, seconds);
    const bool last = layer + 1 == config.layers;
    BlockWeights weights = load_block_weights(*files, layer);
    const BlockRanges unsmoothed = ranges;
    smooth_block(ops(), config, 0.6, weights, ranges);
    const Block smoothed = model.make_block(weights, layer);

    for (std::size_t i = 0; i < streams.size(); ++i) {
      if (last) model.advance(streams[i], layer, block, Stage::down);
      Stream s = streams[i];
      s.h = before[i];
      s.x = s.branch = {};
      model.enter(s, smoothed);
      for (Stage stage : all_stages) {
        // fp32 rounding of norm, division and the power: a few ulp.
        const std::vector<float> seen = channel_absmax(ops(), s.x);
        for (std::size_t k = 0; k < seen.size(); ++k) {
          ASSERT_LE(seen[k], ranges.of(stage)[k] * (1 + 1e-5f)) << layer << " " << name_of(stage) << " " << k;
          ASSERT_GE(seen[k], ranges.of(stage)[k] * (1 - 1e-5f)) << layer << " " << name_of(stage) << " " << k;
        }
        model.advance(s, layer, smoothed, stage);
      }
      const Tensor expected = ops().to_host(streams[i].h), actual = ops().to_host(s.h);
      EXPECT_LT(rms(actual, expected), 1e-5 * rms(expected)) << "layer " << layer;
    }
    EXPECT_NE(ranges.input[0], unsmoothed.input[0]);
    EXPECT_EQ(ranges.of(Stage::down)[0], unsmoothed.of(Stage::down)[0]);
  };
  Seconds seconds;
  const auto windows = random_windows(config, 3, 20);
  full_precision_walk(model, windows, 1000, visit, seconds);
  EXPECT_EQ(visited, config.layers);
}

INSTANTIATE_TEST_SUITE_P(Families, Smoothing, testing::Values("opt", "llama-gqa", "cohere"), [](const auto& test) {
  std::string name = test.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

TEST(SmoothQuant, FamiliesWithoutANormInFront) {
  ModelConfig config;
  for (BlockKind block : {BlockKind::pre_norm, BlockKind::sandwich, BlockKind::parallel}) {
    config.block = block;
    EXPECT_EQ(exit_of([&] { require_smoothable(config); }), Exit::ok);
  }
  for (BlockKind block : {BlockKind::post_norm, BlockKind::output_norm}) {
    config.block = block;
    config.family = "opt";
    expect_error(Exit::usage, "opt", [&] { require_smoothable(config); });
    expect_error(Exit::usage, "--method w8a8", [&] { require_smoothable(config); });
  }
}

class Checkpoint : public testing::Test {
 protected:
  QuantizeReport run(Method method, const std::string& scheme, std::span<const Window> windows) {
    QuantSpec spec = defaults_of(method);
    apply_scheme(spec, scheme);
    QuantizeJob job{in_tree("llama-gqa"), directory_ / "out", true, spec, DType::f32, ExportFormat::fake};
    return quantize_checkpoint(ops(), job, windows, nullptr);
  }

  static Tensor logits(const fs::path& directory, const Window& window) {
    Transformer model(open(directory), ops(), DType::f32);
    model.load_all();
    Batch batch;
    batch.append(window);
    return ops().to_host(model.logits(model.forward(batch)));
  }

  TemporaryDirectory directory_;
};

TEST_F(Checkpoint, StaticRangesAreMeasuredWrittenAndUsed) {
  const auto files = open(in_tree("llama-gqa"));
  const Transformer model(files, ops(), DType::f32);
  const auto windows = random_windows(model.config(), 1, 30);
  Batch batch;
  batch.append(windows[0]);
  Stream s = model.embed(batch);
  model.enter(s, model.load_block(0));
  const std::vector<float> first = channel_absmax(ops(), s.x);

  const Tensor full = logits(in_tree("llama-gqa"), windows[0]);
  for (Method method : {Method::w8a8, Method::smoothquant}) {
    run(method, "w8a8-wtensor-atensor-bmm", method == Method::w8a8 ? std::span<const Window>() : windows);
    const double dynamic = rms(logits(directory_ / "out", windows[0]), full);
    const QuantizeReport report = run(method, "w8a8-wtensor-astatic-bmm", windows);
    ASSERT_EQ(std::ssize(report.activations.fixed), model.config().layers);
    const float range = report.activations.fixed[0].input[0];
    if (method == Method::w8a8) {
      EXPECT_EQ(range, *std::max_element(first.begin(), first.end()));
      EXPECT_FALSE(report.alpha);
    } else {
      EXPECT_NE(range, *std::max_element(first.begin(), first.end()));
      EXPECT_EQ(report.alpha, 0.85);
    }
    for (const FixedRanges& r : report.activations.fixed) {
      for (float v : r.input) EXPECT_GT(v, 0.0f);
      for (float v : r.qkv) EXPECT_GT(v, 0.0f);
    }
    const ActivationQuant stored = ModelFiles::open(directory_ / "out").activations();
    EXPECT_EQ(stored.fixed[1].input, report.activations.fixed[1].input);
    // Calibrated on the very window that is run: like ranges taken from the sequence while it runs, but that these see
    // activations behind quantized layers.
    const double fixed = rms(logits(directory_ / "out", windows[0]), full);
    EXPECT_LT(fixed, 2 * dynamic);
    EXPECT_GT(fixed, 0.5 * dynamic);
  }
}

// Only weight-and-activation schemes carry an order to quantize activations; ranges work for grids too.
TEST_F(Checkpoint, ActivationsOfEveryMethod) {
  const auto windows = random_windows(open(in_tree("llama-gqa"))->config(), 2, 24);
  EXPECT_FALSE(run(Method::rtn, "w4a16-g16-sym", {}).activations);
  EXPECT_EQ(run(Method::rtn, "w4a8-g16-sym", {}).activations.weight_bits, 0);
  EXPECT_EQ(run(Method::w8a8, "w4a6", {}).activations.weight_bits, 4);
  EXPECT_EQ(run(Method::nf4, "wnf4anf4-b64", {}).activations.kind, ActivationKind::nf4);
  EXPECT_EQ(run(Method::gptq, "w4a8-g16-asym-astatic", windows).activations.fixed.size(),
            static_cast<std::size_t>(open(in_tree("llama-gqa"))->config().layers));
  expect_error(Exit::data, "no windows", [&] { run(Method::smoothquant, "w8a8", {}); });
}

// More bits are closer to the unquantized model, for every scheme on both sides.
TEST_F(Checkpoint, ErrorFallsWithBits) {
  const Window window = random_windows(open(in_tree("llama-gqa"))->config(), 1, 40)[0];
  const Tensor full = logits(in_tree("llama-gqa"), window);
  double last = HUGE_VAL;
  for (const char* scheme : {"w3a3", "w4a4", "w6a6", "w8a8", "w8a16"}) {
    run(Method::w8a8, scheme, {});
    const double error = rms(logits(directory_ / "out", window), full);
    EXPECT_LT(error, last) << scheme;
    last = error;
  }
  EXPECT_GT(last, 0.0);
}

}  // namespace
}  // namespace ptq

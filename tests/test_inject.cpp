// Outlier injection: the same function, outliers where they were asked for, and clear refusals.
#include "compare.h"
#include "device.h"
#include "golden_models.h"
#include "golden_path.h"
#include "host/checkpoint.h"
#include "host/files.h"
#include "model/transformer.h"
#include "quant/fold.h"
#include "quant/inject_checkpoint.h"
#include "temporary.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

namespace ptq::testing {
namespace {

namespace fs = std::filesystem;

fs::path in_tree(const std::string& name) { return fs::path(PTQ_SOURCE_DIR) / "tests" / "golden" / "models" / name; }

struct Passed {
  Tensor logits;
  std::map<std::pair<int, Stage>, Tensor> inputs;  // of the stages, by layer
};

Passed pass(const fs::path& directory) {
  Transformer model(std::make_shared<const ModelFiles>(ModelFiles::open(directory)), ops(), DType::f32);
  model.load_all();
  std::mt19937 random(5);
  Batch batch;
  std::vector<std::int32_t> ids(12);
  for (std::int32_t& id : ids) id = static_cast<std::int32_t>(random() % static_cast<unsigned>(model.config().vocab));
  batch.append(ids);
  Passed r;
  Taps taps;
  taps.stage_input = [&](int layer, Stage stage, const Tensor& x) { r.inputs[{layer, stage}] = x.clone(); };
  r.logits = model.logits(model.forward(batch, &taps));
  return r;
}

InjectJob job_of(const fs::path& model, const fs::path& output, std::vector<InjectPlace> places, float scale) {
  InjectJob job;
  job.model = model;
  job.output = output;
  job.spec.places = std::move(places);
  job.spec.scale = scale;
  job.spec.seed = 3;
  job.dtype = DType::f32;
  return job;
}

double rms_difference(const Tensor& a, const Tensor& b) {
  double sum = 0.0, norm = 0.0;
  for (std::int64_t i = 0; i < a.numel(); ++i) {
    const double d = element(a, i) - element(b, i);
    sum += d * d;
    norm += element(b, i) * element(b, i);
  }
  return std::sqrt(sum / norm);
}

// x [T, width] of a stage: the channels are `factor` times what they were, the others are the same bits.
void expect_scaled(const Tensor& before, const Tensor& after, const std::vector<std::int64_t>& channels, float factor) {
  const std::int64_t width = before.cols(), rows = before.rows();
  ASSERT_EQ(before.shape(), after.shape());
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < width; ++c) {
      const bool chosen = std::find(channels.begin(), channels.end(), c) != channels.end();
      ASSERT_EQ(after.data<float>()[r * width + c], (chosen ? factor : 1.0f) * before.data<float>()[r * width + c]);
    }
  }
}

// The inputs of the linears that read an injected place.
void expect_outliers(const ModelConfig& config, const Passed& before, const Passed& after, const InjectPlan& plan) {
  for (int layer = 0; layer < config.layers; ++layer) {
    for (const InjectedChannels& c : plan.layers[static_cast<std::size_t>(layer)]) {
      const auto check = [&](Stage stage, const std::vector<std::int64_t>& channels) {
        expect_scaled(before.inputs.at({layer, stage}), after.inputs.at({layer, stage}), channels, plan.spec.scale);
      };
      if (c.place == InjectPlace::norm) {
        check(Stage::qkv, c.channels);
        check(Stage::gate_up, c.channels);
      } else if (c.place == InjectPlace::updown) {
        check(Stage::down, c.channels);
      } else {
        std::vector<std::int64_t> read;
        const std::int64_t group = config.heads / config.kv_heads;
        for (const std::int64_t v : c.channels) {
          const std::int64_t head = v / config.head_dim, inside = v % config.head_dim;
          for (std::int64_t h = 0; h < group; ++h) read.push_back((head * group + h) * config.head_dim + inside);
        }
        check(Stage::o, read);
      }
    }
  }
}

TEST(Inject, PowersOfTwoKeepTheBits) {
  const std::vector<InjectPlace> all = parse_places("all");
  std::map<std::string, int> families;
  for (const fs::path& model : golden_models()) {
    SCOPED_TRACE(model.string());
    const TemporaryDirectory tmp;
    const InjectReport report = inject_checkpoint(ops(), job_of(model, tmp / "out", all, 32.0f));
    EXPECT_TRUE(report.exact);
    const ModelConfig config = read_config(model);
    const Passed before = pass(model), after = pass(tmp / "out");
    EXPECT_TRUE(same_bits(after.logits, before.logits));
    expect_outliers(config, before, after, report.plan);
    std::size_t places = 0;
    for (const InjectedChannels& c : report.plan.layers.front()) places += c.channels.size() == 2 ? 1 : 0;
    EXPECT_EQ(places + report.plan.skipped.size(), 3u);
    ++families[config.family];
  }
  for (const char* family : {"opt", "llama", "cohere"}) EXPECT_GT(families[family], 0) << family;
}

TEST(Inject, OtherScalesAreEqualToRounding) {
  for (const char* name : {"opt", "llama-gqa", "cohere"}) {
    SCOPED_TRACE(name);
    const TemporaryDirectory tmp;
    const InjectReport report =
        inject_checkpoint(ops(), job_of(in_tree(name), tmp / "out", parse_places("all"), 27.0f));
    EXPECT_FALSE(report.exact);
    const Passed before = pass(in_tree(name)), after = pass(tmp / "out");
    // A few roundings of 2^-24 per weight; the network is three layers deep at most.
    EXPECT_LT(rms_difference(after.logits, before.logits), 1e-5);
    EXPECT_GT(rms_difference(after.logits, before.logits), 0.0);
  }
}

TEST(Inject, OffsetOfNormsWithABias) {
  const TemporaryDirectory tmp;
  InjectJob job = job_of(in_tree("opt"), tmp / "out", {InjectPlace::norm}, 1.0f);
  job.spec.offset = 20.0f;
  const InjectReport report = inject_checkpoint(ops(), job);
  EXPECT_FALSE(report.exact);
  const Passed before = pass(in_tree("opt")), after = pass(tmp / "out");
  // C times a column is added and taken back: errors of C 2^-24 relative to activations of order one.
  EXPECT_LT(rms_difference(after.logits, before.logits), 1e-4);
  const std::vector<std::int64_t>& channels = report.plan.layers[0].at(0).channels;
  const Tensor &x = before.inputs.at({0, Stage::qkv}), &y = after.inputs.at({0, Stage::qkv});
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    const bool chosen = std::find(channels.begin(), channels.end(), i % x.cols()) != channels.end();
    EXPECT_NEAR(element(y, i), element(x, i) + (chosen ? 20.0 : 0.0), 20.0 * 0x1p-22);
  }
}

TEST(Inject, RefusalsSayWhy) {
  const TemporaryDirectory tmp;
  int number = 0;
  const auto refused = [&](const fs::path& model, const char* why, std::vector<InjectPlace> places,
                           const std::function<void(InjectSpec&)>& edit) {
    InjectJob job = job_of(model, tmp / std::to_string(number++), std::move(places), 32.0f);
    edit(job.spec);
    expect_error(Exit::usage, why, [&] { inject_checkpoint(ops(), job); });
    EXPECT_FALSE(fs::exists(job.output));
  };
  const std::vector<InjectPlace> norm{InjectPlace::norm}, all = parse_places("all");
  refused(in_tree("llama-gqa"), "norms with a bias", norm, [](InjectSpec& s) { s.offset = 1.0f; });
  refused(in_tree("llama-gqa"), "norms with a bias", all, [](InjectSpec& s) { s.offset = 1.0f; });
  refused(in_tree("opt"), "--offset applies", {InjectPlace::vo}, [](InjectSpec& s) { s.offset = 1.0f; });
  refused(in_tree("opt"), "has only", norm, [](InjectSpec& s) { s.channels = 100000; });
  refused(in_tree("opt"), "--scale", norm, [](InjectSpec& s) { s.scale = 0.0f; });
  refused(in_tree("opt"), "--scale", norm, [](InjectSpec& s) { s.scale = NAN; });
  refused(in_tree("opt"), "layers", norm, [](InjectSpec& s) { s.last_layer = 77; });
  expect_error(Exit::usage, "--at", [] { parse_places("head"); });
  expect_error(Exit::usage, "would replace",
               [&] { inject_checkpoint(ops(), job_of(in_tree("opt"), in_tree("opt"), norm, 2.0f)); });

  const fs::path golden = environment_path("PTQ_GOLDEN") / "models";
  if (!fs::is_directory(golden)) GTEST_SKIP() << "PTQ_GOLDEN has no models: post-norm families are not tested";
  refused(golden / "opt-350m-like", "no norm stands between", norm, [](InjectSpec&) {});
  refused(golden / "olmo2", "no norm stands between", norm, [](InjectSpec&) {});
  refused(golden / "gemma2", "norms with a bias", norm, [](InjectSpec& s) { s.offset = 1.0f; });
}

TEST(Inject, SeedAndLayersChooseChannels) {
  const ModelConfig config = read_config(in_tree("llama-gqa"));
  InjectSpec spec;
  spec.places = parse_places("all");
  spec.channels = 3;
  const auto channels = [&](const InjectSpec& s) {
    std::vector<std::vector<std::int64_t>> out;
    for (const auto& layer : plan_injection(config, s).layers) {
      for (const InjectedChannels& c : layer) out.push_back(c.channels);
    }
    return out;
  };
  const auto first = channels(spec);
  EXPECT_EQ(first, channels(spec));
  EXPECT_EQ(first[0], first[3]) << "a norm's channels are the same in all layers";
  InjectSpec other = spec;
  other.seed = 1;
  EXPECT_NE(first, channels(other));
  other = spec;
  other.first_layer = other.last_layer = 1;
  const InjectPlan one = plan_injection(config, other);
  EXPECT_TRUE(one.layers[0].empty());
  ASSERT_EQ(one.layers[1].size(), 3u);
  EXPECT_EQ(one.layers[1][2].channels, first[5]) << "a layer's draw does not depend on the selection";
  other = spec;
  other.places = {InjectPlace::updown};
  EXPECT_EQ(plan_injection(config, other).layers[1].at(0).channels, first[5]);
}

// Stored as the source is, with a card that names everything and asks for nothing.
TEST(Inject, KeepsTheSourcesTypeAndWritesACard) {
  const TemporaryDirectory tmp;
  const fs::path source = tmp / "source";
  fs::create_directories(source);
  fs::copy_file(in_tree("llama-gqa") / "config.json", source / "config.json");
  {
    const auto file = open_safetensors(in_tree("llama-gqa") / "model.safetensors");
    std::map<std::string, Tensor> tensors;
    for (const auto& [name, info] : file->tensors()) tensors[name] = file->read(name, DType::bf16);
    write_safetensors(source / "model.safetensors", tensors);
  }
  InjectJob job = job_of(source, tmp / "out", parse_places("all"), 64.0f);
  job.dtype.reset();
  const InjectReport report = inject_checkpoint(ops(), job);
  EXPECT_EQ(report.dtype, DType::bf16);
  EXPECT_TRUE(report.exact);
  EXPECT_TRUE(same_bits(pass(tmp / "out").logits, pass(source).logits));
  const auto written = open_safetensors(tmp / "out" / "model.safetensors");
  for (const auto& [name, info] : written->tensors()) EXPECT_EQ(info.dtype, DType::bf16) << name;
  const nlohmann::json card = read_json(tmp / "out" / "ptq.json", "card");
  EXPECT_EQ(card.at("method"), "inject-outliers");
  EXPECT_EQ(card.at("exact"), true);
  EXPECT_EQ(card.at("parameters").at("scale"), 64.0);
  EXPECT_EQ(card.at("injected").at(0).at("norm"), report.plan.layers[0].at(0).channels);
  EXPECT_FALSE(card.contains("activations"));
  EXPECT_EQ(card.at("source").at("files").size(), 2u);

  // A source that quantizes activations would lose that.
  put(source / "ptq.json", R"({"activations": {"bits": 8, "granularity": "per-token"}})");
  job.output = tmp / "again";
  expect_error(Exit::data, "quantized activations", [&] { inject_checkpoint(ops(), job); });
}

}  // namespace
}  // namespace ptq::testing

// Scale folding preserves the function of every family: bit for bit with powers of two, to rounding otherwise.
#include "device.h"
#include "golden_models.h"
#include "golden_path.h"
#include "host/files.h"
#include "quant/fold.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

namespace ptq {
namespace {

namespace fs = std::filesystem;

Transformer load(const fs::path& directory) {
  Transformer model(std::make_shared<const ModelFiles>(ModelFiles::open(directory)), ops(), DType::f32);
  model.load_all();
  return model;
}

using Change = std::function<void(BlockWeights& weights)>;

// Logits of one sequence through blocks whose weights were changed before they were laid out.
Tensor logits(const Transformer& model, const Change& change) {
  Batch batch;
  std::vector<std::int32_t> ids;
  for (int i = 0; i < 24; ++i) ids.push_back(static_cast<std::int32_t>((i * 37 + 11) % model.config().vocab));
  batch.append(ids);
  Stream s = model.embed(batch);
  for (int layer = 0; layer < model.config().layers; ++layer) {
    BlockWeights weights = load_block_weights(model.files(), layer);
    change(weights);
    const Block block = model.make_block(weights, layer);
    model.enter(s, block);
    for (Stage stage : all_stages) model.advance(s, layer, block, stage);
  }
  return ops().to_host(model.logits(s.h));
}

// Scales of a stage: powers of two, or any positive numbers.
std::vector<float> scales(const ModelConfig& config, const BlockWeights& weights, Stage stage, bool powers) {
  std::mt19937 random(static_cast<unsigned>(stage) + 1);
  // A stored gain - 1 keeps its bits only if it does not shrink towards -1.
  std::uniform_int_distribution<int> exponent(-2, config.norm.one_plus_weight ? 0 : 2);
  std::uniform_real_distribution<float> real(-2.0f, 2.0f);
  std::vector<float> t(static_cast<std::size_t>(weights[roles_of(stage, config)[0]].cols()));
  for (float& x : t) x = powers ? std::ldexp(1.0f, exponent(random)) : std::exp2(real(random));
  return t;
}

void fold_all(const ModelConfig& config, BlockWeights& weights, bool powers) {
  for (Stage stage : all_stages) {
    if (scale_source(config, stage).kind == ScaleSource::Kind::none) continue;
    fold_scales(weights, config, stage, scales(config, weights, stage, powers));
  }
}

TEST(Fold, PowersOfTwoChangeNoBitOfTheLogits) {
  for (const fs::path& directory : golden_models()) {
    SCOPED_TRACE(directory.filename().string());
    const Transformer model = load(directory);
    const Tensor before = logits(model, [](BlockWeights&) {});
    const Tensor after = logits(model, [&](BlockWeights& w) { fold_all(model.config(), w, true); });
    EXPECT_EQ(std::memcmp(before.raw(), after.raw(), before.bytes()), 0);
  }
}

TEST(Fold, AnyScalesChangeLogitsByRoundingOnly) {
  for (const fs::path& directory : golden_models()) {
    SCOPED_TRACE(directory.filename().string());
    const Transformer model = load(directory);
    // Ten times what fp32 rounding did to the reference; folding rounds each weight once more.
    const double bound = read_json(directory / "golden.json", "golden").at("tolerance").at("logits_abs");
    const Tensor before = logits(model, [](BlockWeights&) {});
    const Tensor after = logits(model, [&](BlockWeights& w) { fold_all(model.config(), w, false); });
    double worst = 0;
    for (std::int64_t i = 0; i < before.numel(); ++i) {
      worst = std::max(worst, std::fabs(static_cast<double>(before.data<float>()[i]) - after.data<float>()[i]));
    }
    EXPECT_LE(worst, bound);
  }
}

// The tests above would notice a half-done fold.
TEST(Fold, AForgottenBiasWouldBeSeen) {
  const Transformer model = load(fs::path(PTQ_SOURCE_DIR) / "tests/golden/models/opt");
  const Tensor before = logits(model, [](BlockWeights&) {});
  for (Stage stage : all_stages) {
    const Tensor after = logits(model, [&](BlockWeights& w) {
      const ScaleSource source = scale_source(model.config(), stage);
      Tensor& bias = source.kind == ScaleSource::Kind::norm ? w.norm_bias[static_cast<std::size_t>(source.norm)]
                                                            : w.bias[static_cast<std::size_t>(source.linear)];
      const Tensor unfolded = bias.clone();
      fold_scales(w, model.config(), stage, scales(model.config(), w, stage, true));
      bias = unfolded;
    });
    EXPECT_NE(std::memcmp(before.raw(), after.raw(), before.bytes()), 0) << static_cast<int>(stage);
  }
}

ModelConfig config_of(BlockKind block) {
  ModelConfig c;
  c.block = block;
  c.heads = c.kv_heads = 4;
  return c;
}

TEST(Fold, SourcesOfEveryKindOfBlock) {
  using Kind = ScaleSource::Kind;
  const auto kind = [](const ModelConfig& c, Stage stage) { return scale_source(c, stage).kind; };

  const ModelConfig llama = config_of(BlockKind::pre_norm);
  EXPECT_EQ(scale_source(llama, Stage::qkv).norm, NormRole::attention_in);
  EXPECT_EQ(scale_source(llama, Stage::gate_up).norm, NormRole::mlp_in);
  EXPECT_EQ(scale_source(llama, Stage::o).linear, LinearRole::v);
  EXPECT_EQ(scale_source(llama, Stage::down).linear, LinearRole::up);
  for (Stage stage : all_stages) EXPECT_EQ(scaled_linears(llama, stage), roles_of(stage, llama));

  const ModelConfig cohere = config_of(BlockKind::parallel);
  const std::vector<LinearRole> all{LinearRole::q, LinearRole::k, LinearRole::v, LinearRole::gate, LinearRole::up};
  EXPECT_EQ(scaled_linears(cohere, Stage::qkv), all);
  EXPECT_EQ(scaled_linears(cohere, Stage::gate_up), all);
  EXPECT_EQ(scale_source(cohere, Stage::gate_up).norm, NormRole::attention_in);

  for (BlockKind block : {BlockKind::post_norm, BlockKind::output_norm}) {
    const ModelConfig c = config_of(block);
    for (Stage stage : {Stage::qkv, Stage::gate_up}) {
      EXPECT_EQ(kind(c, stage), Kind::none);
      EXPECT_NE(scale_source(c, stage).reason, "");
    }
    EXPECT_EQ(kind(c, Stage::o), Kind::linear);
    EXPECT_EQ(kind(c, Stage::down), Kind::linear);
  }

  ModelConfig grouped = llama;
  grouped.kv_heads = 2;
  EXPECT_EQ(kind(grouped, Stage::o), Kind::none);

  ModelConfig ungated = llama;
  ungated.gated = false;
  ungated.activation = Activation::relu;
  EXPECT_EQ(kind(ungated, Stage::down), Kind::linear);
  ungated.activation = Activation::gelu_erf;
  EXPECT_EQ(kind(ungated, Stage::down), Kind::none);
}

TEST(Fold, FoldingWhereItIsNotExactIsABug) {
  BlockWeights weights;
  const std::vector<float> t(4, 1.0f);
  EXPECT_THROW(fold_scales(weights, config_of(BlockKind::post_norm), Stage::qkv, t), Error);
}

}  // namespace
}  // namespace ptq

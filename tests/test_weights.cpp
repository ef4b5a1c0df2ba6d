// model/weights.h: the tensors that a config asks for, by role.
#include "model/weights.h"

#include "golden_path.h"
#include "tiny_checkpoint.h"

#include <cmath>
#include <utility>

namespace ptq {
namespace {

namespace fs = std::filesystem;

class Model : public testing::Test {
 protected:
  ModelFiles open() const {
    put_tiny(dir.path(), config, tensors);
    return ModelFiles::open(dir.path());
  }
  void refused(std::string_view part) const {
    expect_error(Exit::data, part, [&] { open(); });
  }

  TemporaryDirectory dir;
  nlohmann::json config = tiny_config();
  std::map<std::string, Tensor> tensors = tiny_tensors();
};

TEST_F(Model, HandsOutEveryWeightByRole) {
  const ModelFiles files = open();
  EXPECT_TRUE(files.unexpected().empty());
  expect_same(files.embedding(DType::f32), tensors.at("model.embed_tokens.weight"));
  expect_same(files.head(DType::f32), tensors.at("lm_head.weight"));
  expect_same(files.final_norm_weight(DType::f32), tensors.at("model.norm.weight"));
  expect_same(files.norm_weight(1, NormRole::attention_in, DType::f32),
              tensors.at("model.layers.1.input_layernorm.weight"));
  expect_same(files.norm_weight(1, NormRole::mlp_in, DType::f32),
              tensors.at("model.layers.1.post_attention_layernorm.weight"));
  const std::map<LinearRole, std::string> names{
      {LinearRole::q, "self_attn.q_proj"}, {LinearRole::k, "self_attn.k_proj"}, {LinearRole::v, "self_attn.v_proj"},
      {LinearRole::o, "self_attn.o_proj"}, {LinearRole::gate, "mlp.gate_proj"}, {LinearRole::up, "mlp.up_proj"},
      {LinearRole::down, "mlp.down_proj"}};
  for (const auto& [role, name] : names) {
    const std::string module = "model.layers.0." + name;
    EXPECT_EQ(files.linear_ref(0, role).module, module);
    expect_same(files.linear_weight(0, role, DType::f32), tensors.at(module + ".weight"));
    expect_same(files.linear_weight(0, role, DType::bf16), tensors.at(module + ".weight").to(DType::bf16));
    EXPECT_FALSE(files.linear_bias(0, role, DType::f32));
  }
  for (const NormRole role : {NormRole::attention_out, NormRole::mlp_out, NormRole::q, NormRole::k}) {
    EXPECT_FALSE(files.norm_weight(0, role, DType::f32));
  }
  EXPECT_FALSE(files.norm_bias(0, NormRole::mlp_in, DType::f32));
  EXPECT_FALSE(files.position_table(DType::f32));
  EXPECT_FALSE(files.project_in(DType::f32));
}

TEST_F(Model, NamesWithoutTheLeadingModel) {
  std::map<std::string, Tensor> bare;
  for (const auto& [name, tensor] : tensors) bare[name.starts_with("model.") ? name.substr(6) : name] = tensor;
  const auto full = std::exchange(tensors, bare);
  const ModelFiles files = open();
  EXPECT_EQ(files.linear_ref(1, LinearRole::k).tensor, "layers.1.self_attn.k_proj.weight");
  EXPECT_EQ(files.linear_ref(1, LinearRole::k).module, "model.layers.1.self_attn.k_proj");
  expect_same(files.linear_weight(1, LinearRole::k, DType::f32), full.at("model.layers.1.self_attn.k_proj.weight"));
  expect_same(files.head(DType::f32), full.at("lm_head.weight"));
}

TEST_F(Model, ATiedHeadIsTheEmbedding) {
  config["tie_word_embeddings"] = true;  // the stored lm_head differs and must lose
  const ModelFiles files = open();
  expect_same(files.head(DType::f32), tensors.at("model.embed_tokens.weight"));
  EXPECT_TRUE(files.unexpected().empty());
  tensors.erase("lm_head.weight");
  expect_same(open().head(DType::f32), tensors.at("model.embed_tokens.weight"));
  config["tie_word_embeddings"] = false;
  refused("1 of 21 tensors are missing, the first is lm_head.weight");
}

TEST_F(Model, UnexpectedTensorsAreListedAndNotUsed) {
  tensors["model.layers.0.self_attn.q_proj.bias"] = random_tensor({16}, 1);
  tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = random_tensor({2}, 1);
  tensors["model.layers.9.mlp.up_proj.weight"] = random_tensor({24, 16}, 1);
  tensors["position_ids"] = Tensor::of<std::int64_t>({0, 1}, {1, 2});
  const ModelFiles files = open();
  EXPECT_EQ(files.unexpected(), (std::vector<std::string>{"model.layers.0.self_attn.q_proj.bias",
                                                          "model.layers.9.mlp.up_proj.weight", "position_ids"}));
  EXPECT_FALSE(files.linear_bias(0, LinearRole::q, DType::f32));
  config["attention_bias"] = true;
  refused("missing, the first is model.layers.0.self_attn.k_proj.bias");
}

TEST_F(Model, RefusesWrongShapesAndTypes) {
  const std::string name = "model.layers.1.mlp.down_proj.weight";
  const Tensor good = tensors[name];
  for (const Shape& shape : {Shape{24, 16}, Shape{16, 25}, Shape{384}, Shape{1, 16, 24}}) {
    tensors[name] = Tensor::zeros(DType::f32, shape);
    refused("config.json asks for [16, 24]");
  }
  tensors[name] = Tensor::zeros(DType::i32, {16, 24});
  refused("int32");
  tensors[name] = good.to(DType::f16);  // any floating dtype, tensor by tensor
  expect_same(open().linear_weight(1, LinearRole::down, DType::f32), good.to(DType::f16).to(DType::f32));
}

TEST_F(Model, FusedTensorsAreRowSlices) {
  config["model_type"] = "phi3";
  for (int i = 0; i < 2; ++i) {
    const std::string p = "model.layers." + std::to_string(i) + ".";
    for (const char* part :
         {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj"}) {
      tensors.erase(p + part + ".weight");
    }
    tensors[p + "self_attn.qkv_proj.weight"] = random_tensor({32, 16}, 50);
    tensors[p + "mlp.gate_up_proj.weight"] = random_tensor({48, 16}, 51);
  }
  const ModelFiles files = open();
  const Tensor qkv = tensors.at("model.layers.1.self_attn.qkv_proj.weight");
  const Tensor gate_up = tensors.at("model.layers.1.mlp.gate_up_proj.weight");
  expect_same(files.linear_weight(1, LinearRole::q, DType::f32), qkv.slice_rows(0, 16));
  expect_same(files.linear_weight(1, LinearRole::k, DType::f32), qkv.slice_rows(16, 24));
  expect_same(files.linear_weight(1, LinearRole::v, DType::f32), qkv.slice_rows(24, 32));
  expect_same(files.linear_weight(1, LinearRole::gate, DType::f32), gate_up.slice_rows(0, 24));
  expect_same(files.linear_weight(1, LinearRole::up, DType::bf16), gate_up.slice_rows(24, 48).to(DType::bf16));
  EXPECT_EQ(files.linear_ref(1, LinearRole::v).module, "model.layers.1.self_attn.v_proj");
}

// Every golden checkpoint opens, and every expected tensor reads in every float type.
TEST(GoldenModels, OpenAndRead) {
  PTQ_NEED(models, "PTQ_GOLDEN", "models");
  int count = 0;
  for (const auto& entry : fs::directory_iterator(models)) {
    if (!entry.is_directory()) continue;
    SCOPED_TRACE(entry.path().string());
    const ModelFiles files = ModelFiles::open(entry.path());
    EXPECT_TRUE(files.unexpected().empty());
    EXPECT_FALSE(files.checkpoint().tensors().empty());
    for (const auto& [name, info] : files.checkpoint().tensors()) {
      const Tensor t = files.checkpoint().read(name, DType::f32);
      EXPECT_EQ(t.shape(), info.shape) << name;
      bool finite = true;
      for (const float x : t.span<float>()) finite = finite && std::isfinite(x);
      EXPECT_TRUE(finite) << name;
      expect_same(files.checkpoint().read(name, DType::bf16), t.to(DType::bf16));
    }
    EXPECT_EQ(files.head(DType::f32).shape(), (Shape{files.config().vocab, files.config().embed_width}));
    ++count;
  }
  EXPECT_GE(count, 24);
}

}  // namespace
}  // namespace ptq

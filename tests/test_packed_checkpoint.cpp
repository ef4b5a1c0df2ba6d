// model/weights.h on packed checkpoints: what opens, what it gives, and what is refused. The files are written here
// from random codes.
#include "model/weights.h"

#include "compare.h"
#include "tiny_checkpoint.h"

#include <cmath>
#include <limits>
#include <random>

namespace ptq {
namespace {

using Json = nlohmann::json;
using testing::same_bits;

constexpr const char* q0 = "model.layers.0.self_attn.q_proj";

bool is_linear(const std::string& name) { return name.find("_proj.weight") != std::string::npos; }
std::string module_of(const std::string& name) { return name.substr(0, name.size() - 7); }

CodedWeight random_codes(const Shape& shape, const PackedConfig& c, unsigned seed) {
  std::mt19937 random(seed);
  const std::int64_t groups = c.group == -1 ? 1 : shape[1] / c.group;
  CodedWeight w{c.bits, Tensor::empty(DType::u8, shape), Tensor::empty(DType::f32, {shape[0], groups}),
                Tensor::empty(DType::f32, {shape[0], groups}), Tensor::empty(DType::i32, {shape[1]})};
  const unsigned top = (1u << c.bits) - 1;
  for (std::uint8_t& q : w.codes.span<std::uint8_t>()) q = static_cast<std::uint8_t>(random() & top);
  for (float& s : w.scales.span<float>()) s = static_cast<float>(1 + random() % 63) / 256.0f;
  for (float& z : w.zeros.span<float>()) z = static_cast<float>(c.symmetric ? (top + 1) / 2 : 1 + random() % top);
  for (std::int64_t k = 0; k < shape[1]; ++k) {
    w.g_idx.data<std::int32_t>()[k] = static_cast<std::int32_t>(c.group == -1 ? 0 : k / c.group);
  }
  if (c.act_order) std::shuffle(w.g_idx.span<std::int32_t>().begin(), w.g_idx.span<std::int32_t>().end(), random);
  return w;
}

Json integer_args(int bits, const char* strategy, bool symmetric = true) {
  return {{"num_bits", bits}, {"type", "int"}, {"symmetric", symmetric}, {"strategy", strategy}, {"dynamic", false}};
}

class PackedModel : public ::testing::Test {
 protected:
  // Replaces every linear by its packed tensors.
  void pack_as(const PackedConfig& c, Json quantization) {
    packed = c;
    config["quantization_config"] = std::move(quantization);
    std::map<std::string, Tensor> out;
    for (const auto& [name, tensor] : tiny_tensors()) {
      if (!is_linear(name)) {
        out[name] = tensor;
        continue;
      }
      const std::string module = module_of(name);
      codes[module] = random_codes(tensor.shape(), c, static_cast<unsigned>(codes.size()));
      for (const auto& [part, value] : pack(c, module, codes[module], DType::f16)) out[part] = value;
    }
    tensors = std::move(out);
  }
  void gptq(bool act_order = false) {
    pack_as({PackedFormat::gptq, 4, 8, false, act_order, false, {}},
            {{"quant_method", "gptq"}, {"bits", 4}, {"group_size", 8}, {"sym", false}, {"desc_act", act_order}});
  }
  void int8() {
    Json inputs = integer_args(8, "token");
    inputs["dynamic"] = true;
    config["quantization_config"] = {
        {"quant_method", "compressed-tensors"},
        {"format", "int-quantized"},
        {"ignore", {"lm_head"}},
        {"config_groups",
         {{"group_0",
           {{"targets", {"Linear"}}, {"weights", integer_args(8, "channel")}, {"input_activations", inputs}}}}}};
    for (auto& [name, tensor] : tiny_tensors()) {
      if (!is_linear(name)) continue;
      Tensor q = Tensor::empty(DType::i8, tensor.shape());
      for (std::int64_t k = 0; k < q.numel(); ++k)
        q.data<std::int8_t>()[k] = static_cast<std::int8_t>(k * 37 % 255 - 127);
      tensors[name] = q;
      tensors[name + "_scale"] = Tensor::zeros(DType::f32, {tensor.dim(0), 1});
      for (float& s : tensors[name + "_scale"].span<float>()) s = 0.25f;
    }
  }

  ModelFiles open() const {
    put_tiny(dir.path(), config, tensors);
    return ModelFiles::open(dir.path());
  }
  void refused(std::string_view part) const {
    expect_error(Exit::data, part, [&] {
      const ModelFiles files = open();
      files.linear_weight(0, LinearRole::q, DType::f32);
    });
  }
  void config_refused(const char* key, const Json& value, std::string_view part) {
    const Json before = config;
    config["quantization_config"][key] = value;
    refused(part);
    config = before;
  }

  void expect_codes(const ModelFiles& files) const {
    EXPECT_TRUE(files.unexpected().empty());
    for (int layer = 0; layer < 2; ++layer) {
      for (const LinearRole role : all_linear_roles) {
        const CodedWeight& want = codes.at(files.linear_ref(layer, role).module);
        const auto got = files.linear_codes(layer, role);
        ASSERT_TRUE(got);
        EXPECT_TRUE(files.is_packed(layer, role));
        EXPECT_FALSE(files.linear_int8(layer, role));
        EXPECT_TRUE(same_bits(got->codes, want.codes));
        EXPECT_TRUE(same_bits(got->scales, want.scales));
        EXPECT_TRUE(same_bits(got->zeros, want.zeros));
        EXPECT_TRUE(same_bits(got->g_idx, want.g_idx));
        EXPECT_TRUE(same_bits(files.linear_weight(layer, role, DType::f32), dequantize(want)));
      }
    }
  }

  TemporaryDirectory dir;
  Json config = tiny_config();
  PackedConfig packed;
  std::map<std::string, Tensor> tensors = tiny_tensors();
  std::map<std::string, CodedWeight> codes;
};

TEST_F(PackedModel, EveryFormatOpens) {
  for (const bool act_order : {false, true}) {
    gptq(act_order);
    expect_codes(open());
    config["quantization_config"]["checkpoint_format"] = "gptq_v2";
    pack_as({PackedFormat::gptq_v2, 4, 8, false, act_order, false, {}}, config["quantization_config"]);
    expect_codes(open());
  }
  pack_as({PackedFormat::awq_gemm, 4, 8, false, false, false, {}},
          {{"quant_method", "awq"}, {"bits", 4}, {"group_size", 8}, {"zero_point", true}, {"version", "GEMM"}});
  expect_codes(open());
  for (const int bits : {4, 8}) {
    for (const bool symmetric : {true, false}) {
      Json weights = integer_args(bits, "group", symmetric);
      weights["group_size"] = 8;
      weights["actorder"] = "group";
      pack_as({PackedFormat::pack_quantized, bits, 8, symmetric, true, false, {}},
              {{"quant_method", "compressed-tensors"},
               {"format", "pack-quantized"},
               {"config_groups", {{"group_0", {{"targets", {"Linear"}}, {"weights", weights}}}}}});
      const ModelFiles files = open();
      expect_codes(files);
      EXPECT_FALSE(files.activations());
      EXPECT_EQ(files.parameters(), 2 * 40 * 16 + 16 + 2 * (2 * 16 + 2 * 16 * 16 + 2 * 8 * 16 + 3 * 24 * 16));
    }
  }
}

TEST_F(PackedModel, Int8WithDynamicActivations) {
  int8();
  const ModelFiles files = open();
  EXPECT_TRUE(files.unexpected().empty());
  const auto w = files.linear_int8(1, LinearRole::up);
  ASSERT_TRUE(w);
  EXPECT_TRUE(same_bits(w->codes, tensors.at("model.layers.1.mlp.up_proj.weight")));
  EXPECT_FALSE(files.linear_codes(1, LinearRole::up));
  EXPECT_EQ(files.linear_weight(1, LinearRole::up, DType::f32).data<float>()[1], 0.25f * (37 - 127));
  EXPECT_EQ(files.activations().kind, ActivationKind::integer);
  EXPECT_EQ(files.activations().bits, 8);
  EXPECT_EQ(files.activations().range, ActivationRange::token);

  tensors[std::string(q0) + ".weight"] = random_tensor({16, 16}, 1);
  refused("such a mixture cannot be run");
  tensors[std::string(q0) + ".weight"] = Tensor::zeros(DType::i32, {16, 16});
  refused("holds int32 values, it must be int8");
}

// Tensors, not lists of names, say which linears are packed; parameters may stand beside the config.
TEST_F(PackedModel, MixturesAndOldConfigs) {
  gptq();
  for (const char* part : {".qweight", ".qzeros", ".scales", ".g_idx"}) tensors.erase(std::string(q0) + part);
  refused("3 of 63 tensors are missing, the first is model.layers.0.self_attn.q_proj.qweight");
  tensors[std::string(q0) + ".weight"] = random_tensor({16, 16}, 1);
  {
    const ModelFiles files = open();
    EXPECT_FALSE(files.is_packed(0, LinearRole::q));
    EXPECT_TRUE(files.is_packed(1, LinearRole::q));
    EXPECT_FALSE(files.linear_codes(0, LinearRole::q));
    expect_same(files.linear_weight(0, LinearRole::q, DType::f32), tensors.at(std::string(q0) + ".weight"));
  }
  gptq();
  for (const auto& [module, w] : codes) tensors.erase(module + ".g_idx");  // GPTQ-for-LLaMa had none
  tensors["model.layers.0.mlp.up_proj.bias"] = Tensor::zeros(DType::f16, {24});
  put(dir / "quantize_config.json", R"({"bits": 4, "group_size": 8, "desc_act": false, "sym": false})");
  config.erase("quantization_config");
  const ModelFiles files = open();
  EXPECT_EQ(files.packed().format, PackedFormat::gptq);
  EXPECT_EQ(files.unexpected(), std::vector<std::string>{"model.layers.0.mlp.up_proj.bias"});
  EXPECT_TRUE(same_bits(files.linear_weight(0, LinearRole::q, DType::f32), dequantize(codes.at(q0))));
}

TEST_F(PackedModel, FusedModulesGiveTheirRows) {
  config["model_type"] = "phi3";
  const PackedConfig c{PackedFormat::gptq_v2, 4, 8, false, false, false, {}};
  config["quantization_config"] = {
      {"quant_method", "gptq"}, {"bits", 4}, {"group_size", 8}, {"checkpoint_format", "gptq_v2"}};
  const CodedWeight qkv = random_codes({32, 16}, c, 1), gate_up = random_codes({48, 16}, c, 2),
                    square = random_codes({16, 16}, c, 3), down = random_codes({16, 24}, c, 4);
  for (auto it = tensors.begin(); it != tensors.end();) it = is_linear(it->first) ? tensors.erase(it) : std::next(it);
  for (int layer = 0; layer < 2; ++layer) {
    const std::string p = fmt::format("model.layers.{}.", layer);
    for (const auto& [name, w] : {std::pair<std::string, CodedWeight>{"self_attn.qkv_proj", qkv},
                                  {"mlp.gate_up_proj", gate_up},
                                  {"self_attn.o_proj", square},
                                  {"mlp.down_proj", down}}) {
      for (const auto& [part, value] : pack(c, p + name, w, DType::f16)) tensors[part] = value;
    }
  }
  const ModelFiles files = open();
  EXPECT_TRUE(same_bits(files.linear_weight(1, LinearRole::k, DType::f32), dequantize(qkv).slice_rows(16, 24)));
  EXPECT_TRUE(same_bits(files.linear_weight(0, LinearRole::up, DType::f32), dequantize(gate_up).slice_rows(24, 48)));
  EXPECT_TRUE(same_bits(files.linear_codes(0, LinearRole::v)->codes, qkv.codes.slice_rows(24, 32)));
}

TEST_F(PackedModel, RefusesDamagedTensors) {
  const std::string q = q0;
  gptq(true);
  const auto good = tensors;
  tensors[q + ".qweight"] = Tensor::zeros(DType::i32, {3, 16});
  refused("q_proj.qweight has shape [3, 16], config.json asks for [2, 16]");
  tensors = good;
  tensors[q + ".qweight"] = Tensor::zeros(DType::f32, {2, 16});
  refused("q_proj.qweight holds float32 values, it must be int32");
  tensors = good;
  tensors[q + ".scales"] = Tensor::zeros(DType::i32, {2, 16});
  refused("q_proj.scales holds int32 values, it must be floating point");
  tensors = good;
  tensors.erase(q + ".scales");
  refused("missing, the first is model.layers.0.self_attn.q_proj.scales");
  tensors = good;
  tensors.erase(q + ".g_idx");
  refused("missing, the first is model.layers.0.self_attn.q_proj.g_idx");
  for (const std::int32_t group : {2, -1, std::numeric_limits<std::int32_t>::min()}) {
    tensors = good;
    tensors[q + ".g_idx"] = Tensor::zeros(DType::i32, {16});
    tensors[q + ".g_idx"].data<std::int32_t>()[5] = group;
    refused(fmt::format("q_proj.g_idx: column 5 is in group {}, but there are 2 groups", group));
  }
  for (const float bad : {std::nanf(""), INFINITY}) {
    tensors = good;
    Tensor scales = tensors[q + ".scales"].to(DType::f32).clone();
    scales.data<float>()[3] = bad;
    tensors[q + ".scales"] = scales;
    refused("q_proj.scales: scale 3 is");
  }
  tensors = good;
  tensors[q + ".qzeros"] = tensors[q + ".qzeros"].clone();
  tensors[q + ".qzeros"].data<std::int32_t>()[0] = -1;
  refused("q_proj.qzeros: a stored 15 in GPTQ v1");
}

TEST_F(PackedModel, RefusesConfigsThatItCannotRun) {
  gptq();
  config_refused("quant_method", "bitsandbytes", "quant_method \"bitsandbytes\" cannot be run (known: gptq");
  config_refused("quant_method", "fp8", "compressed-tensors");
  config_refused("quant_method", 4, "not a string");
  for (const Json& bits : {Json(0), Json(5), Json(16), Json("4"), Json(4.5), Json(nullptr)}) {
    config_refused("bits", bits, "bits");
  }
  config_refused("bits", 8, "qweight has shape");
  for (const Json& group : {Json(0), Json(-2), Json(std::int64_t{1} << 60), Json("8")}) {
    config_refused("group_size", group, "group_size");
  }
  config_refused("group_size", 4, "has shape");
  config_refused("desc_act", 1, "not true or false");
  config_refused("checkpoint_format", "marlin", "checkpoint_format \"marlin\"");
  config_refused("pack_dtype", "int16", "pack_dtype \"int16\"");
  config_refused("is_marlin_format", true, "is_marlin_format");
  config_refused("lm_head", true, "lm_head");
  config_refused("dynamic", {{"-:.*down.*", Json::object()}}, "dynamic");
  config["quantization_config"] = "gptq";
  refused("must be a JSON object");
  config["quantization_config"] = {{"quant_method", "awq"}, {"bits", 4}, {"group_size", 8}};
  config_refused("bits", 3, "AWQ's packing has 4 bits");
  config_refused("version", "gemv_fast", "version \"gemv_fast\"");
  config_refused("backend", "llm-awq", "backend");
  config_refused("zero_point", false, "zero_point");
  config_refused("modules_to_not_convert", "lm_head", "not a list");
  config_refused("group_size", 7, "does not divide");

  config = tiny_config();
  int8();
  config_refused("ignore", {1}, "not a string");
  config_refused("ignore", "lm_head", "not a list");
  config_refused("format", "float-quantized", "format \"float-quantized\"");
  config_refused("format", "pack-quantized", "missing");
  config_refused("quantization_status", "frozen", "quantization_status");
  config_refused("kv_cache_scheme", integer_args(8, "tensor"), "kv_cache_scheme");
  config_refused("transform_config", {{"config_groups", {{"u", 1}}}}, "transform_config");
  config_refused("sparsity_config", {{"format", "sparse-24-bitmask"}}, "sparse-24-bitmask");
  config_refused("config_groups", Json::object(), "0 groups");
  config_refused("config_groups", Json::array(), "must be a JSON object");
  const Json group = config["quantization_config"]["config_groups"]["group_0"];
  config_refused("config_groups", {{"a", group}, {"b", group}}, "2 groups");
  const auto changed = [&](const char* object, const char* key, const Json& value) {
    Json g = group;
    g[object][key] = value;
    return Json{{"group_0", g}};
  };
  config_refused("config_groups", changed("weights", "num_bits", 4), "num_bits 8");
  config_refused("config_groups", changed("weights", "symmetric", false), "asymmetric");
  config_refused("config_groups", changed("weights", "strategy", "block"), "strategy \"block\"");
  config_refused("config_groups", changed("weights", "type", "float"), "type \"float\"");
  config_refused("config_groups", changed("weights", "dynamic", true), "dynamic");
  config_refused("config_groups", changed("input_activations", "dynamic", false), "activations cannot be run");
  config_refused("config_groups", changed("input_activations", "strategy", "tensor"), "activations cannot be run");
  config_refused("config_groups", changed("input_activations", "num_bits", 4), "activations cannot be run");
  config_refused("config_groups", changed("output_activations", "num_bits", 8), "output_activations");
}

}  // namespace
}  // namespace ptq

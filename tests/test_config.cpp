// model/config.h: config.json of every family, old and new spellings, class defaults, and what is refused.
// Expected values: the public configurations, spec models.md 0.1, 1.2 and 3, transformers 4.57.6.
#include "model/config.h"

#include "golden_path.h"
#include "temporary.h"

#include <nlohmann/json.hpp>

#include <cmath>

namespace ptq {
namespace {

using Json = nlohmann::json;

ModelConfig read(const Json& json) {
  const TemporaryDirectory dir;
  put(dir / "config.json", json.dump());
  return read_config(dir.path());
}

// The keys that have no default.
Json minimal(const std::string& type) {
  Json json{{"model_type", type},       {"hidden_size", 64}, {"num_hidden_layers", 4},
            {"num_attention_heads", 8}, {"vocab_size", 300}, {type == "opt" ? "ffn_dim" : "intermediate_size", 96}};
  if (type == "cohere") json["rope_theta"] = 10000.0;
  return json;
}

Json with(Json json, const Json& changes) {
  for (const auto& [key, value] : changes.items()) json[key] = value;
  return json;
}

std::vector<int> windows(const ModelConfig& c) {
  std::vector<int> all;
  for (const LayerSpec& layer : c.layer) all.push_back(layer.window);
  return all;
}

void refused(const Json& json, std::string_view part) {
  SCOPED_TRACE(json.dump().substr(0, 300));
  expect_error(Exit::data, part, [&] { read(json); });
}

// --- the paper's models ---

struct Paper {
  const char* directory;
  const char* family;
  int width, layers, heads, kv_heads, head_dim, ffn, vocab, max_position;
  double theta;
  float epsilon;
  bool tied;
  int window, bos, eos;
  DType dtype;
};

TEST(Config, ModelsOfThePaper) {
  PTQ_NEED(configs, "PTQ_MODELS", "configs");
  const Paper all[] = {
      {"opt-6.7b", "opt", 4096, 32, 32, 32, 128, 16384, 50272, 2048, 10000, 1e-5f, true, 0, 2, 2, DType::f16},
      {"llama-7b", "llama", 4096, 32, 32, 32, 128, 11008, 32000, 2048, 1e4, 1e-6f, false, 0, 1, 2, DType::f16},
      {"Llama-2-7b-hf", "llama", 4096, 32, 32, 32, 128, 11008, 32000, 4096, 1e4, 1e-5f, false, 0, 1, 2, DType::f16},
      {"Meta-Llama-3-8B", "llama", 4096, 32, 32, 8, 128, 14336, 128256, 8192, 5e5, 1e-5f, false, 0, 128000, 128001,
       DType::bf16},
      {"Mistral-7B-v0.1", "mistral", 4096, 32, 32, 8, 128, 14336, 32000, 32768, 1e4, 1e-5f, false, 4096, 1, 2,
       DType::bf16},
      {"c4ai-command-r-v01.partial", "cohere", 8192, 40, 64, 64, 128, 22528, 256000, 8192, 8e6, 1e-5f, true, 0, 5,
       255001, DType::f32},
  };
  for (const Paper& p : all) {
    SCOPED_TRACE(p.directory);
    const ModelConfig c = read_config(configs / p.directory);
    EXPECT_EQ(c.family, p.family);
    EXPECT_EQ(c.width, p.width);
    EXPECT_EQ(c.embed_width, p.width);
    EXPECT_EQ(c.layers, p.layers);
    EXPECT_EQ(c.layer.size(), static_cast<std::size_t>(p.layers));
    EXPECT_EQ(c.heads, p.heads);
    EXPECT_EQ(c.kv_heads, p.kv_heads);
    EXPECT_EQ(c.head_dim, p.head_dim);
    EXPECT_EQ(c.ffn, p.ffn);
    EXPECT_EQ(c.vocab, p.vocab);
    EXPECT_EQ(c.max_position, p.max_position);
    EXPECT_EQ(c.rope.theta, p.theta);
    EXPECT_EQ(c.norm.epsilon, p.epsilon);
    EXPECT_EQ(c.tied_head, p.tied);
    EXPECT_EQ(windows(c), std::vector<int>(static_cast<std::size_t>(p.layers), p.window));
    EXPECT_EQ(c.bos, p.bos);
    EXPECT_EQ(c.eos, p.eos);
    EXPECT_EQ(c.stored_dtype, p.dtype);
    EXPECT_EQ(c.attention_scale, static_cast<float>(1 / std::sqrt(128.0)));
    EXPECT_EQ(c.logits.scale, c.family == "cohere" ? 0.0625f : 1.0f);
    EXPECT_EQ(c.gated, c.family != "opt");
    EXPECT_EQ(c.activation, c.family == "opt" ? Activation::relu : Activation::silu);
    EXPECT_EQ(c.qkv_bias && c.out_bias && c.mlp_bias, c.family == "opt");
  }
}

// --- structure of every family (spec 1.7) and class defaults (0.1) ---

struct Row {
  const char* type;
  BlockKind block;
  NormKind norm;
  bool one_plus, round_first;
  QkNorm qk;
  int kv_heads, head_dim;
  double theta;
  float epsilon;
  bool tied;
  std::vector<int> windows;
};

TEST(Config, ClassDefaults) {
  using enum BlockKind;
  constexpr NormKind rms = NormKind::rms, ln = NormKind::layer;
  const std::vector<int> none{0, 0, 0, 0}, all(4, 4096), even{4096, 0, 4096, 0};
  const Row rows[] = {
      {"opt", pre_norm, ln, false, false, QkNorm::none, 8, 8, 1e4, 1e-5f, true, none},
      {"llama", pre_norm, rms, false, true, QkNorm::none, 8, 8, 1e4, 1e-6f, false, none},
      {"mistral", pre_norm, rms, false, true, QkNorm::none, 8, 8, 1e4, 1e-6f, false, all},
      {"cohere", parallel, ln, false, false, QkNorm::none, 8, 8, 1e4, 1e-5f, true, none},
      {"qwen2", pre_norm, rms, false, true, QkNorm::none, 32, 2, 1e4, 1e-6f, false, none},
      {"qwen3", pre_norm, rms, false, true, QkNorm::per_head, 32, 128, 1e4, 1e-6f, false, none},
      {"gemma2", sandwich, rms, true, false, QkNorm::none, 4, 256, 1e4, 1e-6f, true, even},
      {"gemma3_text", sandwich, rms, true, false, QkNorm::per_head, 4, 256, 1e6, 1e-6f, true, all},
      {"phi3", pre_norm, rms, false, true, QkNorm::none, 8, 8, 1e4, 1e-5f, false, none},
      {"olmo2", output_norm, rms, false, false, QkNorm::full_width, 8, 8, 1e4, 1e-5f, false, none},
      {"smollm3", pre_norm, rms, false, true, QkNorm::none, 4, 8, 2e6, 1e-6f, true, none},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.type);
    Json json = minimal(row.type);
    if (row.kv_heads == 32) json["num_attention_heads"] = 32;  // the class default must divide the heads
    const ModelConfig c = read(json);
    EXPECT_EQ(c.block, row.block);
    EXPECT_EQ(c.norm.kind, row.norm);
    EXPECT_EQ(c.norm.one_plus_weight, row.one_plus);
    EXPECT_EQ(c.norm.round_before_weight, row.round_first);
    EXPECT_EQ(c.norm.epsilon, row.epsilon);
    EXPECT_EQ(c.qk_norm, row.qk);
    EXPECT_EQ(c.kv_heads, row.kv_heads);
    EXPECT_EQ(c.head_dim, row.head_dim);
    EXPECT_EQ(c.rope.theta, row.theta);
    EXPECT_EQ(c.tied_head, row.tied);
    EXPECT_EQ(windows(c), row.windows);
    EXPECT_EQ(c.position, c.family == "opt" ? PositionKind::learned : PositionKind::rope);
    EXPECT_EQ(c.rope_style, c.family == "cohere" ? RopeStyle::interleaved : RopeStyle::half_split);
    EXPECT_EQ(c.rope_in_fp32, c.family == "olmo2");
    EXPECT_EQ(c.qkv_bias, c.family == "qwen2" || c.family == "opt");
    EXPECT_EQ(c.out_bias, c.family == "opt");
    EXPECT_EQ(c.fused_qkv && c.fused_gate_up, c.family == "phi3");
    EXPECT_EQ(c.embed_scale, c.family.starts_with("gemma") ? 8.0f : 1.0f);
    EXPECT_EQ(c.attention_soft_cap, c.family == "gemma2" ? 50.0f : 0.0f);
    EXPECT_EQ(c.logits.soft_cap, c.family == "gemma2" ? 30.0f : 0.0f);
    EXPECT_LT(std::max(c.bos, c.eos), 300) << "an id outside the vocabulary";
  }
}

TEST(Config, OptVariants) {
  const Json opt = minimal("opt");
  ModelConfig c = read(opt);
  EXPECT_TRUE(c.final_norm && c.norm_bias && c.qkv_bias && c.mlp_bias);
  c = read(with(opt, {{"do_layer_norm_before", false}, {"word_embed_proj_dim", 40}}));
  EXPECT_EQ(c.block, BlockKind::post_norm);
  EXPECT_FALSE(c.final_norm);
  EXPECT_EQ(c.embed_width, 40);
  EXPECT_FALSE(read(with(opt, {{"_remove_final_layer_norm", true}})).final_norm);
  c = read(with(opt, {{"enable_bias", false}}));
  EXPECT_TRUE(c.norm_bias && !c.qkv_bias && !c.out_bias && !c.mlp_bias);
  refused(with(opt, {{"layer_norm_elementwise_affine", false}}), "layer_norm_elementwise_affine");
  refused(with(opt, {{"activation_function", "wiggle"}}), "unknown activation_function \"wiggle\"");
}

TEST(Config, WindowsPerLayer) {
  const Json mistral = minimal("mistral");
  EXPECT_EQ(windows(read(with(mistral, {{"sliding_window", nullptr}}))), (std::vector{0, 0, 0, 0}));
  EXPECT_EQ(windows(read(with(mistral, {{"sliding_window", 7}}))), (std::vector{7, 7, 7, 7}));
  EXPECT_EQ(windows(read(with(minimal("phi3"), {{"sliding_window", 13}}))), (std::vector{13, 13, 13, 13}));

  const Json qwen = with(minimal("qwen2"), {{"num_key_value_heads", 2}, {"sliding_window", 9}});
  EXPECT_EQ(windows(read(qwen)), (std::vector{0, 0, 0, 0}));
  const Json sliding = with(qwen, {{"use_sliding_window", true}});
  EXPECT_EQ(windows(read(sliding)), (std::vector{0, 0, 0, 0})) << "max_window_layers is 28";
  EXPECT_EQ(windows(read(with(sliding, {{"max_window_layers", 1}}))), (std::vector{0, 9, 9, 9}));
  const Json types{"sliding_attention", "full_attention", "full_attention", "sliding_attention"};
  EXPECT_EQ(windows(read(with(sliding, {{"layer_types", types}}))), (std::vector{9, 0, 0, 9}));
  refused(with(qwen, {{"layer_types", types}}), "there is no window");
  refused(with(sliding, {{"layer_types", {"full_attention"}}}), "1 entries for 4 layers");
  refused(with(sliding, {{"layer_types", {"a", "b", "c", "chunked_attention"}}}), "unknown layer_types \"a\"");
  refused(with(mistral, {{"layer_types", types}}), "contradicts");

  const Json gemma = with(minimal("gemma3_text"), {{"sliding_window", 8}, {"rope_local_base_freq", 5000.0}});
  const ModelConfig c =
      read(with(gemma, {{"sliding_window_pattern", 2}, {"rope_scaling", {{"rope_type", "linear"}, {"factor", 8.0}}}}));
  EXPECT_EQ(windows(c), (std::vector{8, 0, 8, 0}));
  EXPECT_TRUE(c.layer[0].local_rope && !c.layer[1].local_rope);
  EXPECT_EQ(c.local_rope.theta, 5000.0);
  EXPECT_EQ(c.local_rope.scaling, RopeScaling::none);
  EXPECT_EQ(c.rope.scaling, RopeScaling::linear);
  EXPECT_EQ(windows(read(with(minimal("gemma2"), {{"sliding_window", 8}, {"layer_types", types}}))),
            (std::vector{8, 0, 0, 8}));

  const ModelConfig smol = read(with(
      minimal("smollm3"), {{"no_rope_layers", {1, 0, 1, 1}}, {"use_sliding_window", true}, {"sliding_window", 5}}));
  EXPECT_TRUE(smol.layer[0].rope && !smol.layer[1].rope && smol.layer[3].rope);
  EXPECT_EQ(windows(smol), (std::vector{0, 5, 0, 0}));
  EXPECT_FALSE(read(minimal("smollm3")).layer[3].rope) << "every fourth layer by default";
  refused(with(minimal("smollm3"), {{"no_rope_layers", {1, 0}}}), "list of 4");
  refused(with(minimal("smollm3"), {{"no_rope_layers", {1, 0, 2, 1}}}), "0 and 1 only");
}

// --- rope ---

TEST(Config, RopeSpellings) {
  const Json scaling{
      {"factor", 8.0}, {"low_freq_factor", 1.0}, {"high_freq_factor", 4.0}, {"original_max_position_embeddings", 96}};
  const Json old = with(minimal("llama"), {{"rope_theta", 5e5}, {"rope_scaling", with(scaling, {{"type", "llama3"}})}});
  const Json middle =
      with(minimal("llama"), {{"rope_theta", 5e5}, {"rope_scaling", with(scaling, {{"rope_type", "llama3"}})}});
  const Json v5 =
      with(minimal("llama"), {{"rope_parameters", with(scaling, {{"rope_type", "llama3"}, {"rope_theta", 5e5}})}});
  for (const Json& json : {old, middle, v5}) {
    const RopeSpec rope = read(json).rope;
    EXPECT_EQ(rope.scaling, RopeScaling::llama3);
    EXPECT_EQ(rope.theta, 5e5);
    EXPECT_EQ(rope.factor, 8.0);
    EXPECT_EQ(rope.low_freq_factor, 1.0);
    EXPECT_EQ(rope.high_freq_factor, 4.0);
    EXPECT_EQ(rope.original_max_position, 96);
    EXPECT_EQ(rope.rotary_dim, 8);
  }
  EXPECT_EQ(read(with(minimal("llama"), {{"rope_scaling", {{"type", "default"}}}})).rope.scaling, RopeScaling::none);
  EXPECT_EQ(read(with(minimal("llama"), {{"rope_parameters", {{"rope_theta", 7.0}}}})).rope.theta, 7.0);
  const Json nested{{"full_attention", {{"rope_type", "linear"}, {"factor", 8.0}, {"rope_theta", 3e6}}},
                    {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 2e4}}}};
  const ModelConfig gemma = read(with(minimal("gemma3_text"), {{"rope_parameters", nested}}));
  EXPECT_EQ(gemma.rope.theta, 3e6);
  EXPECT_EQ(gemma.rope.factor, 8.0);
  EXPECT_EQ(gemma.local_rope.theta, 2e4);
  refused(with(minimal("llama"), {{"rope_parameters", nested}}), "one rope for all layers");
}

TEST(Config, RopeScaling) {
  const auto rope = [](const Json& scaling, const Json& more = Json::object()) {
    return read(with(with(minimal("llama"), {{"max_position_embeddings", 256}, {"rope_scaling", scaling}}), more)).rope;
  };
  EXPECT_EQ(rope({{"type", "linear"}, {"factor", 2.5}}).factor, 2.5);
  EXPECT_EQ(rope({{"type", "dynamic"}, {"factor", 2.0}}).original_max_position, 256);

  RopeSpec yarn = rope({{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 64}});
  EXPECT_EQ(yarn.original_max_position, 64);
  EXPECT_DOUBLE_EQ(yarn.attention_factor, 0.1 * std::log(4.0) + 1.0);
  EXPECT_EQ(yarn.beta_fast, 32.0);
  EXPECT_EQ(yarn.beta_slow, 1.0);
  EXPECT_TRUE(yarn.truncate);
  yarn = rope(
      {{"rope_type", "yarn"}, {"factor", 4.0}, {"attention_factor", 1.25}, {"beta_fast", 16}, {"truncate", false}});
  EXPECT_EQ(yarn.attention_factor, 1.25);
  EXPECT_EQ(yarn.original_max_position, 256);
  EXPECT_EQ(yarn.beta_fast, 16.0);
  EXPECT_FALSE(yarn.truncate);
  yarn = rope({{"rope_type", "yarn"}, {"factor", 4.0}, {"mscale", 1.0}, {"mscale_all_dim", 0.5}});
  EXPECT_DOUBLE_EQ(yarn.attention_factor, (0.1 * std::log(4.0) + 1.0) / (0.05 * std::log(4.0) + 1.0));

  const std::vector<double> shorter{1, 2, 3, 4}, longer{5, 6, 7, 8};
  const RopeSpec general =
      rope({{"rope_type", "longrope"}, {"short_factor", shorter}, {"long_factor", longer}, {"factor", 4.0}});
  EXPECT_EQ(general.original_max_position, 256);
  EXPECT_DOUBLE_EQ(general.attention_factor, std::sqrt(1 + std::log(4.0) / std::log(256.0)));
  for (const char* type : {"longrope", "su", "yarn"}) {
    const Json scaling{{"type", type}, {"short_factor", shorter}, {"long_factor", longer}};
    const RopeSpec phi = read(with(minimal("phi3"), {{"max_position_embeddings", 128},
                                                     {"original_max_position_embeddings", 32},
                                                     {"rope_scaling", scaling}}))
                             .rope;
    EXPECT_EQ(phi.scaling, RopeScaling::longrope);
    EXPECT_EQ(phi.original_max_position, 32);
    EXPECT_EQ(phi.factor, 4.0);
    EXPECT_DOUBLE_EQ(phi.attention_factor, std::sqrt(1 + std::log(4.0) / std::log(32.0)));
    EXPECT_EQ(phi.short_factor, shorter);
    EXPECT_EQ(phi.long_factor, longer);
  }
  EXPECT_EQ(read(with(minimal("phi3"), {{"partial_rotary_factor", 0.5}})).rope.rotary_dim, 4);
}

TEST(Config, RefusedRope) {
  const auto bad = [](const Json& scaling, std::string_view part) {
    refused(with(minimal("llama"), {{"rope_scaling", scaling}}), part);
  };
  bad({{"rope_type", "spiral"}, {"factor", 2.0}}, "unknown rope type \"spiral\"");
  bad({{"factor", 2.0}}, "rope_type is missing");
  bad(Json::object(), "rope_type is missing");
  bad({2.0}, "must be a JSON object");
  bad({{"type", "linear"}}, "factor is missing");
  bad({{"type", "linear"}, {"factor", 0.0}}, "factor = 0 is not a positive");
  bad({{"type", "linear"}, {"factor", "2"}}, "not a finite number");
  bad({{"type", "linear"}, {"rope_type", "dynamic"}, {"factor", 2.0}}, "differ");
  bad({{"type", "llama3"}, {"factor", 8.0}}, "low_freq_factor is missing");
  bad({{"type", "llama3"},
       {"factor", 8.0},
       {"low_freq_factor", 1},
       {"high_freq_factor", 1},
       {"original_max_position_embeddings", 32}},
      "must be below");
  bad({{"type", "longrope"}, {"factor", 4.0}, {"short_factor", {1, 2}}, {"long_factor", {1, 2, 3, 4}}}, "list of 4");
  bad({{"type", "longrope"}, {"factor", 4.0}, {"short_factor", {1, 2, 0, 4}}, {"long_factor", {1, 2, 3, 4}}},
      "not a positive");
  for (const double theta : {0.0, -1.0})
    refused(with(minimal("llama"), {{"rope_theta", theta}}), "not a positive number");
  refused(with(minimal("llama"), {{"rope_theta", 1e300}}), "not a positive number");
  refused(with(minimal("llama"), {{"rope_theta", "1e4"}}), "not a finite number");
  refused(with(minimal("llama"), {{"partial_rotary_factor", 0.5}}), "partial_rotary_factor");
  refused(with(minimal("phi3"), {{"partial_rotary_factor", 0.4}}), "even number");
  refused(with(minimal("phi3"), {{"partial_rotary_factor", 2.0}}), "even number");
  Json cohere = minimal("cohere");
  cohere.erase("rope_theta");
  refused(cohere, "rope_theta is missing");
}

// --- everything else ---

TEST(Config, RefusedValues) {
  const Json llama = minimal("llama");
  for (const char* key :
       {"hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "intermediate_size"}) {
    Json missing = llama;
    missing.erase(key);
    refused(missing, std::string(key) + " is missing");
    refused(with(llama, {{key, nullptr}}), std::string(key) + " is missing");
    for (const Json& value : {Json(-1), Json(0), Json(2.5), Json("64"), Json(true), Json({64}),
                              Json(std::int64_t{1} << 40), Json(~std::uint64_t{0})}) {
      refused(with(llama, {{key, value}}), std::string(key) + " = ");
    }
  }
  refused(with(llama, {{"num_attention_heads", 7}}), "does not divide");
  refused(with(llama, {{"num_key_value_heads", 3}}), "does not divide");
  refused(with(llama, {{"num_key_value_heads", 16}}), "does not divide");
  refused(with(llama, {{"head_dim", 3}}), "even number");
  refused(with(llama, {{"head_dim", std::int64_t{1} << 62}}), "head_dim");
  for (const Json& value : {Json(0), Json(-1.0), Json("1e-5"), Json(1e-60)})
    refused(with(llama, {{"rms_norm_eps", value}}), "rms_norm_eps");
  refused(with(llama, {{"hidden_act", "wiggle"}}), "unknown hidden_act");
  refused(with(llama, {{"torch_dtype", "float8_e4m3fn"}}), "unknown torch_dtype");
  refused(with(llama, {{"tie_word_embeddings", 1}}), "not true or false");
  refused(with(llama, {{"model_type", "flamingo9"}}), "unknown model_type \"flamingo9\"");
  refused(with(llama, {{"model_type", "two\nlines"}}), "two\\x0alines");
  refused(with(llama, {{"model_type", 5}}), "not a string");
  refused(with(llama, {{"eos_token_id", "2"}}), "eos_token_id");
  refused(with(minimal("gemma2"), {{"final_logit_softcapping", 0}}), "final_logit_softcapping");
  refused(with(minimal("gemma3_text"), {{"use_bidirectional_attention", true}}), "use_bidirectional_attention");
  refused(Json::array(), "must be a JSON object");
  const TemporaryDirectory dir;
  expect_error(Exit::missing, "config.json", [&] { read_config(dir.path()); });
}

TEST(Config, AcceptedSpellings) {
  Json llama = minimal("llama");
  llama.erase("model_type");
  refused(llama, "neither model_type nor architectures");
  llama["architectures"] = {"LlamaForCausalLM"};
  EXPECT_EQ(read(llama).family, "llama");
  refused(with(llama, {{"architectures", {"BertModel"}}}), "unknown architecture \"BertModel\"");
  EXPECT_EQ(read(with(llama, {{"dtype", "bfloat16"}})).stored_dtype, DType::bf16);
  EXPECT_EQ(read(with(llama, {{"torch_dtype", "torch.float16"}})).stored_dtype, DType::f16);
  EXPECT_EQ(read(with(llama, {{"hidden_act", "gelu_new"}})).activation, Activation::gelu_tanh);
  EXPECT_EQ(read(with(llama, {{"hidden_act", "gelu"}})).activation, Activation::gelu_erf);
  EXPECT_EQ(read(with(llama, {{"eos_token_id", {7, 8}}})).eos, 7);
  EXPECT_EQ(read(with(llama, {{"eos_token_id", nullptr}})).eos, -1);
  EXPECT_EQ(read(with(llama, {{"eos_token_id", 100000}})).eos, -1);
  EXPECT_EQ(read(with(llama, {{"head_dim", nullptr}})).head_dim, 8);
  EXPECT_EQ(read(with(llama, {{"head_dim", 20}})).q_width(), 160);
  EXPECT_EQ(read(with(llama, {{"num_attention_heads", 5}, {"head_dim", 16}})).q_width(), 80);
  const ModelConfig biased = read(with(llama, {{"attention_bias", true}, {"mlp_bias", true}}));
  EXPECT_TRUE(biased.qkv_bias && biased.out_bias && biased.mlp_bias);
  EXPECT_EQ(read(with(minimal("cohere"), {{"use_qk_norm", true}})).qk_norm, QkNorm::per_head_own);
  const ModelConfig gemma =
      read(with(minimal("gemma2"), {{"attn_logit_softcapping", nullptr}, {"query_pre_attn_scalar", 16}}));
  EXPECT_EQ(gemma.attention_soft_cap, 0.0f);
  EXPECT_EQ(gemma.attention_scale, 0.25f);
  EXPECT_EQ(gemma.activation, Activation::gelu_tanh);
}

}  // namespace
}  // namespace ptq

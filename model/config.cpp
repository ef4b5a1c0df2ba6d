#include "model/config.h"

#include "host/error.h"
#include "host/files.h"
#include "host/printable.h"
#include "model/families.h"
#include "model/json_fields.h"
#include "model/rope_config.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace ptq {

namespace {

constexpr Size max_config_bytes(std::uint64_t{1} << 20);
// Larger than any model of these families; what they bound is arithmetic and loops, not taste.
constexpr std::int64_t max_layers = 512, max_heads = 4096, max_head_dim = 4096, max_width = 65536,
                       max_ffn = std::int64_t{1} << 20, max_vocab = std::int64_t{1} << 20,
                       max_context = std::int64_t{1} << 30;

const Family& family_of(const JsonFields& json) {
  const std::string type = json.text("model_type", "");
  const auto architectures = json.texts("architectures");
  require(!type.empty() || !architectures.empty(), Exit::data, "{}: neither model_type nor architectures is there",
          json.where());
  const std::string& name = type.empty() ? architectures.front() : type;
  std::vector<std::string_view> known;
  for (const Family& family : families()) {
    if (name == (type.empty() ? family.architecture : family.model_type)) return family;
    known.push_back(family.model_type);
  }
  fail(Exit::data, "{}: unknown {} \"{}\" (known: {})", json.where(), type.empty() ? "architecture" : "model_type",
       printable(name), fmt::join(known, " "));
}

template <class Value, std::size_t N>
Value choice(const JsonFields& json, const char* key, const std::string& value,
             const std::array<std::pair<std::string_view, Value>, N>& known) {
  for (const auto& [name, result] : known) {
    if (name == value) return result;
  }
  fail(Exit::data, "{}: unknown {} \"{}\"", json.where(), key, printable(value));
}

Activation activation_of(const JsonFields& json, const Family& family) {
  constexpr std::array<std::pair<std::string_view, Activation>, 6> known{
      {{"silu", Activation::silu},
       {"swish", Activation::silu},
       {"relu", Activation::relu},
       {"gelu", Activation::gelu_erf},
       {"gelu_new", Activation::gelu_tanh},
       {"gelu_pytorch_tanh", Activation::gelu_tanh}}};
  return choice(json, family.activation_key, json.text(family.activation_key, family.activation), known);
}

DType dtype_of_config(const JsonFields& json) {
  const char* key = json.has("dtype") ? "dtype" : "torch_dtype";
  std::string name = json.text(key, "float32");
  if (name.starts_with("torch.")) name.erase(0, 6);
  constexpr std::array<std::pair<std::string_view, DType>, 4> known{
      {{"float32", DType::f32}, {"float16", DType::f16}, {"bfloat16", DType::bf16}, {"float64", DType::f64}}};
  return choice(json, key, name, known);
}

// An id that is outside the vocabulary (a class default beside a small vocabulary, -1 in some files) means none.
std::int32_t token_id(const JsonFields& json, const char* key, std::int32_t otherwise, std::int64_t vocab) {
  std::int64_t id = json.mentions(key) ? -1 : otherwise;
  if (const auto* value = json.find(key)) {
    const auto& first = value->is_array() && !value->empty() ? value->front() : *value;
    require(first.is_number_integer(), Exit::data, "{}: {} is neither an integer nor a list of integers", json.where(),
            key);
    // A huge unsigned value turns negative here and means none as well.
    id = first.get<std::int64_t>();
  }
  return id >= 0 && id < vocab ? static_cast<std::int32_t>(id) : -1;
}

void read_sizes(const JsonFields& json, const Family& family, ModelConfig& c) {
  c.vocab = json.integer("vocab_size", 1, max_vocab);
  c.width = json.integer("hidden_size", 1, max_width);
  c.layers = static_cast<int>(json.integer("num_hidden_layers", 1, max_layers));
  c.heads = static_cast<int>(json.integer("num_attention_heads", 1, max_heads));
  c.ffn = json.integer(family.ffn_key, 1, max_ffn);
  c.max_position = json.integer("max_position_embeddings", 1, max_context, family.max_position);
  c.embed_width = c.width;

  std::int64_t kv_default = c.heads;
  if (family.kv_heads > 0 && !json.mentions("num_key_value_heads")) kv_default = family.kv_heads;
  c.kv_heads = static_cast<int>(
      family.learned_positions ? c.heads : json.integer("num_key_value_heads", 1, max_heads, kv_default));
  require(c.heads % c.kv_heads == 0, Exit::data, "{}: num_key_value_heads {} does not divide num_attention_heads {}",
          json.where(), c.kv_heads, c.heads);

  std::int64_t head_dim = family.head_dim > 0 && !json.mentions("head_dim") ? family.head_dim : 0;
  if (!family.learned_positions && json.has("head_dim")) head_dim = json.integer("head_dim", 1, max_head_dim);
  require(head_dim > 0 || c.width % c.heads == 0, Exit::data,
          "{}: num_attention_heads {} does not divide hidden_size {}", json.where(), c.heads, c.width);
  if (head_dim == 0) head_dim = c.width / c.heads;
  require(head_dim <= max_head_dim, Exit::data, "{}: head size {} is above {}", json.where(), head_dim, max_head_dim);
  c.head_dim = static_cast<int>(head_dim);
}

void read_norms(const JsonFields& json, const Family& family, ModelConfig& c) {
  const double epsilon =
      family.epsilon_key == nullptr ? family.epsilon : json.positive(family.epsilon_key, family.epsilon);
  c.norm = {.kind = family.norm,
            .epsilon = static_cast<float>(epsilon),
            .one_plus_weight = family.one_plus_weight,
            .round_before_weight = family.round_before_weight};
  c.norm_bias = family.learned_positions;
  c.qk_norm = family.qk_norm;
  if (family.qk_norm == QkNorm::per_head_own && !json.boolean("use_qk_norm", false)) c.qk_norm = QkNorm::none;
  c.qk_norm_spec = c.norm;
}

void read_biases(const JsonFields& json, const Family& family, ModelConfig& c) {
  const bool attention = family.attention_bias_key && json.boolean("attention_bias", false);
  c.qkv_bias = family.qkv_bias || attention;
  c.out_bias = attention;
  c.mlp_bias = family.mlp_bias_key && json.boolean("mlp_bias", false);
}

// What only OPT has.
void read_opt(const JsonFields& json, ModelConfig& c) {
  c.position = PositionKind::learned;
  c.embed_width = json.integer("word_embed_proj_dim", 1, max_width, c.width);
  const bool pre_norm = json.boolean("do_layer_norm_before", true);
  c.block = pre_norm ? BlockKind::pre_norm : BlockKind::post_norm;
  c.final_norm = pre_norm && !json.boolean("_remove_final_layer_norm", false);
  c.qkv_bias = c.out_bias = c.mlp_bias = json.boolean("enable_bias", true);
  require(json.boolean("layer_norm_elementwise_affine", true), Exit::data,
          "{}: layer_norm_elementwise_affine = false is not supported", json.where());
}

// What only some families have: Gemma's scale and soft caps, Cohere's logit scale.
void read_scales(const JsonFields& json, const Family& family, ModelConfig& c) {
  double attention = c.head_dim;
  if (family.scaled_embedding) {
    attention = json.positive("query_pre_attn_scalar", 256.0);
    c.embed_scale = static_cast<float>(std::sqrt(static_cast<double>(c.width)));
    const auto cap = [&](const char* key, double otherwise) {
      if (!json.mentions(key)) return static_cast<float>(otherwise);
      return json.has(key) ? static_cast<float>(json.positive(key)) : 0.0f;
    };
    const bool capped = family.model_type == "gemma2";
    c.attention_soft_cap = cap("attn_logit_softcapping", capped ? 50.0 : 0.0);
    c.logits.soft_cap = cap("final_logit_softcapping", capped ? 30.0 : 0.0);
    // transformers reads the key for Gemma-3 but does not apply it.
    require(capped || c.attention_soft_cap == 0.0f, Exit::data, "{}: attn_logit_softcapping is not supported for {}",
            json.where(), family.model_type);
    require(!json.boolean("use_bidirectional_attention", false), Exit::data,
            "{}: use_bidirectional_attention is not supported", json.where());
  }
  c.attention_scale = static_cast<float>(1.0 / std::sqrt(attention));
  if (family.block == BlockKind::parallel) c.logits.scale = static_cast<float>(json.positive("logit_scale", 0.0625));
}

// The window of sliding layers, 0 = off.
std::int32_t window_of(const JsonFields& json, const Family& family) {
  if (family.window_rule == WindowRule::none) return 0;
  const bool optional =
      family.window_rule == WindowRule::upper_layers || family.window_rule == WindowRule::no_rope_layers;
  if (optional && !json.boolean("use_sliding_window", false)) return 0;
  if (!json.mentions("sliding_window")) return static_cast<std::int32_t>(family.window);
  return static_cast<std::int32_t>(json.has("sliding_window") ? json.integer("sliding_window", 1, max_context) : 0);
}

void read_rope_layers(const JsonFields& json, const Family& family, ModelConfig& c) {
  if (family.window_rule != WindowRule::no_rope_layers) return;
  const std::int64_t interval = json.integer("no_rope_layer_interval", 1, max_layers, 4);
  for (int i = 0; i < c.layers; ++i) c.layer[static_cast<std::size_t>(i)].rope = (i + 1) % interval != 0;
  const auto* flags = json.find("no_rope_layers");
  if (flags == nullptr) return;
  require(flags->is_array() && flags->size() == c.layer.size(), Exit::data,
          "{}: no_rope_layers must be a list of {} numbers", json.where(), c.layers);
  for (std::size_t i = 0; i < c.layer.size(); ++i) {
    require((*flags)[i] == 0 || (*flags)[i] == 1, Exit::data, "{}: no_rope_layers may hold 0 and 1 only", json.where());
    c.layer[i].rope = (*flags)[i] == 1;  // despite its name, 1 means that the layer has positions
  }
}

void read_layers(const JsonFields& json, const Family& family, ModelConfig& c) {
  c.layer.resize(static_cast<std::size_t>(c.layers));
  read_rope_layers(json, family, c);
  const std::int32_t window = window_of(json, family);
  const bool qwen = family.window_rule == WindowRule::upper_layers;
  const std::int64_t first = qwen ? json.integer("max_window_layers", 0, max_context, 28) : 0;
  const std::int64_t period = json.integer("sliding_window_pattern", 1, max_context, family.window_pattern);
  const auto sliding_by_rule = [&](int i) {
    switch (family.window_rule) {
      case WindowRule::none:
        return false;
      case WindowRule::every_layer:
        return true;
      case WindowRule::upper_layers:
        return window > 0 && i >= first;
      case WindowRule::pattern:
        return (i + 1) % (family.local_theta ? period : family.window_pattern) != 0;
      case WindowRule::no_rope_layers:
        return window > 0 && !c.layer[static_cast<std::size_t>(i)].rope;
    }
    return false;
  };

  const auto types = json.texts("layer_types");
  require(types.empty() || types.size() == c.layer.size(), Exit::data, "{}: layer_types has {} entries for {} layers",
          json.where(), types.size(), c.layers);
  for (int i = 0; i < c.layers; ++i) {
    LayerSpec& layer = c.layer[static_cast<std::size_t>(i)];
    bool sliding = sliding_by_rule(i);
    if (!types.empty()) {
      constexpr std::array<std::pair<std::string_view, bool>, 2> known{
          {{"full_attention", false}, {"sliding_attention", true}}};
      const bool listed = choice(json, "layer_types", types[static_cast<std::size_t>(i)], known);
      // Mistral, Phi-3 and those without a window ignore the list: it must not say anything else than the rule.
      const bool ignored = family.window_rule == WindowRule::none || family.window_rule == WindowRule::every_layer;
      require(!ignored || listed == (sliding && window > 0), Exit::data,
              "{}: layer_types contradicts sliding_window for {}", json.where(), family.model_type);
      require(!listed || window > 0, Exit::data, "{}: layer_types has sliding_attention, but there is no window",
              json.where());
      sliding = listed;
    }
    layer.window = sliding ? window : 0;
    layer.local_rope = sliding && family.local_theta.has_value();
  }
}

}  // namespace

ModelConfig read_config(const std::filesystem::path& directory) {
  const auto path = directory / "config.json";
  const nlohmann::json parsed = read_json(path, "model config", max_config_bytes);
  const JsonFields json(parsed, path.string());
  const Family& family = family_of(json);

  ModelConfig c;
  c.family = family.model_type;
  c.block = family.block;
  c.gated = family.gated;
  c.fused_qkv = c.fused_gate_up = family.fused;
  c.rope_style = family.rope_style;
  c.rope_in_fp32 = family.rope_in_fp32;
  read_sizes(json, family, c);
  read_norms(json, family, c);
  read_biases(json, family, c);
  if (family.learned_positions) {
    read_opt(json, c);
  } else {
    read_rope(json, family, c);
  }
  read_scales(json, family, c);
  read_layers(json, family, c);
  c.activation = activation_of(json, family);
  c.tied_head = json.boolean("tie_word_embeddings", family.tied_head);
  c.stored_dtype = dtype_of_config(json);
  c.bos = token_id(json, "bos_token_id", family.bos, c.vocab);
  c.eos = token_id(json, "eos_token_id", family.eos, c.vocab);
  return c;
}

}  // namespace ptq

#include "model/weight_names.h"

namespace ptq {

namespace {

bool is_opt(const ModelConfig& c) { return c.position == PositionKind::learned; }

std::string layer_path(const ModelConfig& c, int layer) {
  return fmt::format("{}layers.{}.", is_opt(c) ? "model.decoder." : "model.", layer);
}

std::string_view linear_suffix(const ModelConfig& c, LinearRole role) {
  switch (role) {
    case LinearRole::q:
      return "self_attn.q_proj";
    case LinearRole::k:
      return "self_attn.k_proj";
    case LinearRole::v:
      return "self_attn.v_proj";
    case LinearRole::o:
      return is_opt(c) ? "self_attn.out_proj" : "self_attn.o_proj";
    case LinearRole::gate:
      return "mlp.gate_proj";
    case LinearRole::up:
      return is_opt(c) ? "fc1" : "mlp.up_proj";
    case LinearRole::down:
      return is_opt(c) ? "fc2" : "mlp.down_proj";
  }
  return "";
}

// The same names mean other places in other kinds of block: "post_attention_layernorm" precedes the MLP in Llama, and
// follows the attention in Gemma and OLMo-2.
std::string_view norm_suffix(const ModelConfig& c, NormRole role) {
  const bool outputs = c.block == BlockKind::sandwich || c.block == BlockKind::output_norm;
  switch (role) {
    case NormRole::attention_in:
      if (is_opt(c)) return "self_attn_layer_norm";
      return c.block == BlockKind::output_norm ? "" : "input_layernorm";
    case NormRole::attention_out:
      return outputs ? "post_attention_layernorm" : "";
    case NormRole::mlp_in:
      if (is_opt(c)) return "final_layer_norm";
      if (c.block == BlockKind::pre_norm) return "post_attention_layernorm";
      return c.block == BlockKind::sandwich ? "pre_feedforward_layernorm" : "";
    case NormRole::mlp_out:
      return outputs ? "post_feedforward_layernorm" : "";
    case NormRole::q:
      return c.qk_norm == QkNorm::none ? "" : "self_attn.q_norm";
    case NormRole::k:
      return c.qk_norm == QkNorm::none ? "" : "self_attn.k_norm";
  }
  return "";
}

// The fused tensor that holds a linear, and its first row there; no name if it is not fused.
std::pair<std::string_view, std::int64_t> fused_place(const ModelConfig& c, LinearRole role) {
  switch (role) {
    case LinearRole::q:
      return {c.fused_qkv ? "self_attn.qkv_proj" : "", 0};
    case LinearRole::k:
      return {c.fused_qkv ? "self_attn.qkv_proj" : "", c.q_width()};
    case LinearRole::v:
      return {c.fused_qkv ? "self_attn.qkv_proj" : "", c.q_width() + c.kv_width()};
    case LinearRole::gate:
      return {c.fused_gate_up ? "mlp.gate_up_proj" : "", 0};
    case LinearRole::up:
      return {c.fused_gate_up ? "mlp.gate_up_proj" : "", c.ffn};
    default:
      return {"", 0};
  }
}

}  // namespace

GlobalNames global_names(const ModelConfig& c) {
  const std::string base = is_opt(c) ? "model.decoder." : "model.";
  const bool projected = c.embed_width != c.width;
  return {.embedding = base + "embed_tokens",
          .positions = is_opt(c) ? base + "embed_positions" : "",
          .project_in = projected ? base + "project_in" : "",
          .project_out = projected ? base + "project_out" : "",
          .final_norm = !c.final_norm ? "" : base + (is_opt(c) ? "final_layer_norm" : "norm"),
          .head = c.tied_head ? base + "embed_tokens" : "lm_head"};
}

std::string linear_module(const ModelConfig& c, int layer, LinearRole role) {
  return layer_path(c, layer).append(linear_suffix(c, role));
}

std::string norm_module(const ModelConfig& c, int layer, NormRole role) {
  const std::string_view suffix = norm_suffix(c, role);
  return suffix.empty() ? "" : layer_path(c, layer).append(suffix);
}

WeightRef linear_weight_ref(const ModelConfig& c, int layer, LinearRole role) {
  const std::string module = linear_module(c, layer, role);
  const auto [fused, begin] = fused_place(c, role);
  if (fused.empty()) return {.tensor = module + ".weight", .begin = 0, .end = -1, .module = module};
  return {.tensor = layer_path(c, layer).append(fused) + ".weight",
          .begin = begin,
          .end = begin + linear_shape(c, role)[0],
          .module = module};
}

bool has_bias(const ModelConfig& c, LinearRole role) {
  switch (role) {
    case LinearRole::q:
    case LinearRole::k:
    case LinearRole::v:
      return c.qkv_bias;
    case LinearRole::o:
      return c.out_bias;
    default:
      return c.mlp_bias;
  }
}

Shape linear_shape(const ModelConfig& c, LinearRole role) {
  switch (role) {
    case LinearRole::q:
      return {c.q_width(), c.width};
    case LinearRole::k:
    case LinearRole::v:
      return {c.kv_width(), c.width};
    case LinearRole::o:
      return {c.width, c.q_width()};
    case LinearRole::gate:
    case LinearRole::up:
      return {c.ffn, c.width};
    case LinearRole::down:
      return {c.width, c.ffn};
  }
  return {};
}

Shape norm_shape(const ModelConfig& c, NormRole role) {
  if (role != NormRole::q && role != NormRole::k) return {c.width};
  const std::int64_t heads = role == NormRole::q ? c.heads : c.kv_heads;
  switch (c.qk_norm) {
    case QkNorm::none:
      return {};
    case QkNorm::per_head:
      return {c.head_dim};
    case QkNorm::per_head_own:
      return {heads, c.head_dim};
    case QkNorm::full_width:
      return {heads * c.head_dim};
  }
  return {};
}

std::map<std::string, Shape> expected_tensors(const ModelConfig& c) {
  std::map<std::string, Shape> all;
  const auto add_norm = [&](const std::string& module, const Shape& shape) {
    if (module.empty()) return;
    all[module + ".weight"] = shape;
    if (c.norm_bias) all[module + ".bias"] = shape;
  };
  const GlobalNames names = global_names(c);
  all[names.embedding + ".weight"] = {c.vocab, c.embed_width};
  all[names.head + ".weight"] = {c.vocab, c.embed_width};
  // OPT's positions begin at row 2.
  if (!names.positions.empty()) all[names.positions + ".weight"] = {c.max_position + 2, c.width};
  if (!names.project_in.empty()) {
    all[names.project_in + ".weight"] = {c.width, c.embed_width};
    all[names.project_out + ".weight"] = {c.embed_width, c.width};
  }
  add_norm(names.final_norm, {c.width});
  for (int layer = 0; layer < c.layers; ++layer) {
    for (const LinearRole role : all_linear_roles) {
      if (role == LinearRole::gate && !c.gated) continue;
      const Shape shape = linear_shape(c, role);
      // Slices of a fused tensor add up to its shape.
      Shape& whole = all[linear_weight_ref(c, layer, role).tensor];
      whole = {shape[0] + (whole.empty() ? 0 : whole[0]), shape[1]};
      if (has_bias(c, role)) all[linear_module(c, layer, role) + ".bias"] = {shape[0]};
    }
    for (const NormRole role : all_norm_roles) add_norm(norm_module(c, layer, role), norm_shape(c, role));
  }
  return all;
}

}  // namespace ptq

// The rows of data that make one forward pass serve every family: structure, key names and class defaults of
// config.json. Sources: spec models.md 0.1, 1.7 and 2; the defaults are those of the configuration classes of
// transformers 4.57.6, which apply when a key is absent.
#pragma once

#include "model/config.h"

#include <optional>
#include <span>
#include <string_view>

namespace ptq {

// Which layers have a sliding window.
enum class WindowRule : std::uint8_t {
  none,
  every_layer,     // Mistral, Phi-3
  upper_layers,    // Qwen: if use_sliding_window, layers from max_window_layers on
  pattern,         // Gemma: every sliding_window_pattern-th layer is full
  no_rope_layers,  // SmolLM3: if use_sliding_window, the layers without positions
};

struct Family {
  std::string_view model_type;
  std::string_view architecture;  // architectures[0] when model_type is absent

  BlockKind block = BlockKind::pre_norm;
  NormKind norm = NormKind::rms;
  bool one_plus_weight = false;
  bool round_before_weight = true;  // Llama's order (models.md 1.4)
  QkNorm qk_norm = QkNorm::none;    // Cohere: if use_qk_norm
  RopeStyle rope_style = RopeStyle::half_split;
  bool rope_in_fp32 = false;
  bool gated = true;
  bool fused = false;              // Phi-3: qkv_proj and gate_up_proj
  bool scaled_embedding = false;   // Gemma: sqrt(D)
  bool learned_positions = false;  // OPT

  bool qkv_bias = false;            // always there (Qwen2)
  bool attention_bias_key = false;  // attention_bias decides about q, k, v and o
  bool mlp_bias_key = false;

  const char* ffn_key = "intermediate_size";
  const char* epsilon_key = "rms_norm_eps";  // null: not configurable
  double epsilon = 1e-6;
  const char* activation_key = "hidden_act";
  const char* activation = "silu";
  std::optional<double> theta = 10000.0;  // nullopt: the class default changed between versions, so it is required
  std::optional<double> local_theta = std::nullopt;  // Gemma-3: sliding layers have their own theta
  bool partial_rotary = false;                       // honours partial_rotary_factor
  std::int64_t kv_heads = 0;                         // 0: as many as query heads
  std::int64_t head_dim = 0;                         // 0: D / H
  std::int64_t max_position = 2048;
  WindowRule window_rule = WindowRule::none;
  std::int64_t window = 0;  // when sliding_window is absent (null is always off)
  std::int64_t window_pattern = 2;
  bool tied_head = false;
  std::int32_t bos = -1, eos = -1;
};

std::span<const Family> families();

}  // namespace ptq

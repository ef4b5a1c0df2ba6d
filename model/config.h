// ModelConfig: everything that distinguishes one decoder-only family from another, as data. model/config.cpp reads a
// Hugging Face config.json (old and new spellings) into it; the forward pass branches on nothing else.
#pragma once

#include "host/ops.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace ptq {

// How a block combines its two branches with the residual stream h (spec models.md 1.7).
enum class BlockKind : std::uint8_t {
  pre_norm,     // h += attn(norm1(h));              h += mlp(norm2(h))
  post_norm,    // h = norm1(h + attn(h));           h = norm2(h + mlp(h))            OPT-350m
  parallel,     // h += attn(norm1(h)) + mlp(norm1(h))                                Cohere
  sandwich,     // h += norm1b(attn(norm1(h)));      h += norm2b(mlp(norm2(h)))       Gemma-2, Gemma-3
  output_norm,  // h += norm1b(attn(h));             h += norm2b(mlp(h))              OLMo-2
};

enum class PositionKind : std::uint8_t { learned, rope };  // learned: table row = position + 2 (OPT)

enum class QkNorm : std::uint8_t {
  none,
  per_head,      // one gain [C] for all heads            Qwen3, Gemma-3
  per_head_own,  // a gain per head [H,C], [K,C]          Command-R+
  full_width,    // over the whole projection [H*C]       OLMo-2
};

enum class RopeScaling : std::uint8_t { none, linear, dynamic, llama3, yarn, longrope };

struct RopeSpec {
  double theta = 10000.0;
  int rotary_dim = 0;  // first dimensions of a head that turn
  RopeScaling scaling = RopeScaling::none;
  double factor = 1.0;
  double low_freq_factor = 1.0, high_freq_factor = 4.0;  // llama3
  std::int64_t original_max_position = 0;                // llama3, yarn, longrope; dynamic: max_position
  double beta_fast = 32.0, beta_slow = 1.0;              // yarn
  bool truncate = true;                                  // yarn: correction range rounded to integers
  double attention_factor = 1.0;                         // multiplies cos and sin (yarn, longrope)
  std::vector<double> short_factor, long_factor;         // longrope, rotary_dim / 2 each
};

// What may differ from layer to layer.
struct LayerSpec {
  std::int32_t window = 0;  // sliding window, 0 = full attention
  bool rope = true;         // SmolLM3: some layers have no positions
  bool local_rope = false;  // Gemma-3: sliding layers use ModelConfig::local_rope
};

struct ModelConfig {
  std::string family;  // model_type: "llama", "opt", ...
  std::int64_t vocab = 0, width = 0, embed_width = 0 /* OPT-350m: != width */, ffn = 0, max_position = 0;
  int layers = 0, heads = 0, kv_heads = 0, head_dim = 0;

  BlockKind block = BlockKind::pre_norm;
  NormSpec norm;  // of the residual stream
  bool norm_bias = false;
  bool final_norm = true;
  PositionKind position = PositionKind::rope;
  RopeStyle rope_style = RopeStyle::half_split;
  RopeSpec rope, local_rope;
  bool rope_in_fp32 = false;  // cos/sin are not rounded to the compute dtype (OLMo-2)
  QkNorm qk_norm = QkNorm::none;
  NormSpec qk_norm_spec;

  bool qkv_bias = false, out_bias = false, mlp_bias = false;
  bool gated = true;  // act(gate) * up instead of act(fc1)
  Activation activation = Activation::silu;
  bool fused_qkv = false, fused_gate_up = false;  // Phi-3 storage

  float attention_scale = 0.0f;
  float attention_soft_cap = 0.0f;
  float embed_scale = 1.0f;  // Gemma: sqrt(D), rounded to the compute dtype when it is applied
  LogitSpec logits;
  bool tied_head = false;

  std::vector<LayerSpec> layer;     // one per layer
  DType stored_dtype = DType::f32;  // config's torch_dtype / dtype: a hint only
  std::int32_t bos = -1, eos = -1;  // -1: none

  std::int64_t q_width() const { return std::int64_t{heads} * head_dim; }
  std::int64_t kv_width() const { return std::int64_t{kv_heads} * head_dim; }
};

// Reads and validates config.json of a checkpoint directory. Unknown model types, activations, rope types and
// impossible values are refused by name (exit 65); a missing file is exit 66.
ModelConfig read_config(const std::filesystem::path& directory);

}  // namespace ptq

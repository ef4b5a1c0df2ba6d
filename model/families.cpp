#include "model/families.h"

#include <array>

namespace ptq {

namespace {

constexpr Family opt{.model_type = "opt",
                     .architecture = "OPTForCausalLM",
                     .norm = NormKind::layer,
                     .round_before_weight = false,
                     .gated = false,
                     .learned_positions = true,
                     .ffn_key = "ffn_dim",
                     .epsilon_key = nullptr,
                     .epsilon = 1e-5,
                     .activation_key = "activation_function",
                     .activation = "relu",
                     .tied_head = true,
                     .bos = 2,
                     .eos = 2};

constexpr Family llama{.model_type = "llama",
                       .architecture = "LlamaForCausalLM",
                       .attention_bias_key = true,
                       .mlp_bias_key = true,
                       .bos = 1,
                       .eos = 2};

constexpr Family mistral{.model_type = "mistral",
                         .architecture = "MistralForCausalLM",
                         .kv_heads = 8,
                         .max_position = 131072,
                         .window_rule = WindowRule::every_layer,
                         .window = 4096,
                         .bos = 1,
                         .eos = 2};

constexpr Family cohere{.model_type = "cohere",
                        .architecture = "CohereForCausalLM",
                        .block = BlockKind::parallel,
                        .norm = NormKind::layer,
                        .round_before_weight = false,
                        .qk_norm = QkNorm::per_head_own,
                        .rope_style = RopeStyle::interleaved,
                        .attention_bias_key = true,
                        .epsilon_key = "layer_norm_eps",
                        .epsilon = 1e-5,
                        .theta = std::nullopt,
                        .max_position = 8192,
                        .tied_head = true,
                        .bos = 5,
                        .eos = 255001};

constexpr Family qwen2{.model_type = "qwen2",
                       .architecture = "Qwen2ForCausalLM",
                       .qkv_bias = true,
                       .kv_heads = 32,
                       .max_position = 32768,
                       .window_rule = WindowRule::upper_layers,
                       .window = 4096};

constexpr Family qwen3{.model_type = "qwen3",
                       .architecture = "Qwen3ForCausalLM",
                       .qk_norm = QkNorm::per_head,
                       .attention_bias_key = true,
                       .kv_heads = 32,
                       .head_dim = 128,
                       .max_position = 32768,
                       .window_rule = WindowRule::upper_layers,
                       .window = 4096};

constexpr Family gemma2{.model_type = "gemma2",
                        .architecture = "Gemma2ForCausalLM",
                        .block = BlockKind::sandwich,
                        .one_plus_weight = true,
                        .round_before_weight = false,
                        .scaled_embedding = true,
                        .attention_bias_key = true,
                        .activation_key = "hidden_activation",
                        .activation = "gelu_pytorch_tanh",
                        .kv_heads = 4,
                        .head_dim = 256,
                        .max_position = 8192,
                        .window_rule = WindowRule::pattern,
                        .window = 4096,
                        .tied_head = true,
                        .bos = 2,
                        .eos = 1};

constexpr Family gemma3_text{.model_type = "gemma3_text",
                             .architecture = "Gemma3ForCausalLM",
                             .block = BlockKind::sandwich,
                             .one_plus_weight = true,
                             .round_before_weight = false,
                             .qk_norm = QkNorm::per_head,
                             .scaled_embedding = true,
                             .attention_bias_key = true,
                             .activation_key = "hidden_activation",
                             .activation = "gelu_pytorch_tanh",
                             .theta = 1e6,
                             .local_theta = 1e4,
                             .kv_heads = 4,
                             .head_dim = 256,
                             .max_position = 131072,
                             .window_rule = WindowRule::pattern,
                             .window = 4096,
                             .window_pattern = 6,
                             .tied_head = true,
                             .bos = 2,
                             .eos = 1};

constexpr Family phi3{.model_type = "phi3",
                      .architecture = "Phi3ForCausalLM",
                      .fused = true,
                      .epsilon = 1e-5,
                      .partial_rotary = true,
                      .max_position = 4096,
                      .window_rule = WindowRule::every_layer,
                      .bos = 1,
                      .eos = 32000};

constexpr Family olmo2{.model_type = "olmo2",
                       .architecture = "Olmo2ForCausalLM",
                       .block = BlockKind::output_norm,
                       .round_before_weight = false,
                       .qk_norm = QkNorm::full_width,
                       .rope_in_fp32 = true,
                       .attention_bias_key = true,
                       .epsilon = 1e-5,
                       .eos = 50279};

constexpr Family smollm3{.model_type = "smollm3",
                         .architecture = "SmolLM3ForCausalLM",
                         .attention_bias_key = true,
                         .mlp_bias_key = true,
                         .theta = 2e6,
                         .kv_heads = 4,
                         .max_position = 32768,
                         .window_rule = WindowRule::no_rope_layers,
                         .tied_head = true,
                         .bos = 128000,
                         .eos = 128001};

constexpr std::array all{opt, llama, mistral, cohere, qwen2, qwen3, gemma2, gemma3_text, phi3, olmo2, smollm3};

}  // namespace

std::span<const Family> families() { return all; }

}  // namespace ptq

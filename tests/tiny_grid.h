// A grid whose models are so small that all of its cells take a second: random weights, a byte-level tokenizer, a text, a
// task and a calibration text, in the layout that a user's grid has.
#pragma once

#include "host/checkpoint.h"
#include "temporary.h"
#include "tiny_tokenizer.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <map>
#include <random>
#include <string>

namespace ptq {

inline constexpr std::int64_t tiny_width = 32, tiny_ffn = 48, tiny_layers = 3, tiny_vocab = 256;

// "llama", "opt" or "cohere" (parallel block).
inline void write_tiny_model(const std::filesystem::path& directory, const std::string& family, unsigned seed = 1) {
  const bool opt = family == "opt", cohere = family == "cohere";
  Json config = {{"model_type", family},
                 {"hidden_size", tiny_width},
                 {"num_hidden_layers", tiny_layers},
                 {"num_attention_heads", 4},
                 {"vocab_size", tiny_vocab},
                 {"max_position_embeddings", 64},
                 {"tie_word_embeddings", true},
                 {"torch_dtype", "float32"},
                 {"bos_token_id", 1},
                 {"eos_token_id", 2}};
  if (opt) {
    config.update({{"ffn_dim", tiny_ffn},
                   {"word_embed_proj_dim", tiny_width},
                   {"do_layer_norm_before", true},
                   {"activation_function", "relu"},
                   {"pad_token_id", 1}});
  } else {
    config.update({{"intermediate_size", tiny_ffn}, {"rope_theta", 10000.0}, {"hidden_act", "silu"}});
    config.update(cohere ? Json{{"layer_norm_eps", 1e-5}, {"logit_scale", 0.5}, {"num_key_value_heads", 4}}
                         : Json{{"rms_norm_eps", 1e-5}, {"num_key_value_heads", 2}});
  }
  std::map<std::string, Tensor> tensors;
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  const auto add = [&](const std::string& name, const Shape& shape, float mean, float deviation) {
    Tensor t = Tensor::empty(DType::f32, shape);
    for (float& v : t.span<float>()) v = mean + deviation * normal(random);
    tensors[name] = t;
  };
  const auto norm = [&](const std::string& name) {
    add(name + ".weight", {tiny_width}, 1.0f, 0.2f);
    if (opt) add(name + ".bias", {tiny_width}, 0.0f, 0.1f);
  };
  const auto linear = [&](const std::string& name, std::int64_t rows, std::int64_t columns) {
    add(name + ".weight", {rows, columns}, 0.0f, 0.25f);
    if (opt) add(name + ".bias", {rows}, 0.0f, 0.1f);
  };
  const std::string root = opt ? "model.decoder." : "model.";
  add(root + "embed_tokens.weight", {tiny_vocab, tiny_width}, 0.0f, 1.0f);
  if (opt) add(root + "embed_positions.weight", {66, tiny_width}, 0.0f, 0.3f);
  norm(root + (opt ? "final_layer_norm" : "norm"));
  const std::int64_t kv = family == "llama" ? tiny_width / 2 : tiny_width;
  for (std::int64_t layer = 0; layer < tiny_layers; ++layer) {
    const std::string at = fmt::format("{}layers.{}.", root, layer);
    norm(at + (opt ? "self_attn_layer_norm" : "input_layernorm"));
    if (!cohere) norm(at + (opt ? "final_layer_norm" : "post_attention_layernorm"));
    linear(at + "self_attn.q_proj", tiny_width, tiny_width);
    linear(at + "self_attn.k_proj", kv, tiny_width);
    linear(at + "self_attn.v_proj", kv, tiny_width);
    linear(at + (opt ? "self_attn.out_proj" : "self_attn.o_proj"), tiny_width, tiny_width);
    if (!opt) linear(at + "mlp.gate_proj", tiny_ffn, tiny_width);
    linear(at + (opt ? "fc1" : "mlp.up_proj"), tiny_ffn, tiny_width);
    linear(at + (opt ? "fc2" : "mlp.down_proj"), tiny_width, tiny_ffn);
  }
  std::filesystem::create_directories(directory);
  put(directory / "config.json", config.dump(1));
  put(directory / "tokenizer.json", byte_level_json({}).dump());
  write_safetensors(directory / "model.safetensors", tensors);
}

inline std::string tiny_text(unsigned seed, int words) {
  constexpr std::array list{"the", "king", "gave", "a", "book", "to", "his", "child", "and", "left", "quietly", "."};
  std::mt19937 random(seed);
  std::string text;
  for (int i = 0; i < words; ++i) text += std::string(list[random() % list.size()]) + (i % 12 == 11 ? "\n" : " ");
  return text;
}

// DIR/models/{llama,opt}, DIR/data/{text.txt,calibration.txt,task.jsonl}
inline void write_tiny_world(const std::filesystem::path& directory) {
  for (const char* family : {"llama", "opt"}) write_tiny_model(directory / "models" / family, family);
  std::filesystem::create_directories(directory / "data");
  put(directory / "data" / "text.txt", tiny_text(1, 120));
  put(directory / "data" / "calibration.txt", tiny_text(2, 400));
  std::string task;
  for (int i = 0; i < 12; ++i) {
    task += Json{{"context", tiny_text(static_cast<unsigned>(10 + i), 4)},
                 {"choices", {"a book", "the king"}},
                 {"gold", i % 2}}
                .dump() +
            "\n";
  }
  put(directory / "data" / "task.jsonl", task);
}

// Without methods and cells: both models, a perplexity, a task, a calibration set.
inline const std::string tiny_grid_head = R"(name = "tiny"
models = "models"
data = "data"

[[metric]]
name = "ppl"
text = "text.txt"
seqlen = 32

[[metric]]
name = "task"
task = "task.jsonl"

[[model]]
name = "Llama"
path = "llama"

[[model]]
name = "OPT"
path = "opt"

[[set]]
name = "words"
set = "calibration.txt"
samples = 6
seqlen = 32
sampling = "gptq"
seed = 3
)";

inline std::string tiny_method(const std::string& name, const std::string& method, const std::string& options = "") {
  return fmt::format("\n[[method]]\nname = \"{}\"\nmethod = \"{}\"\n{}\n", name, method, options);
}

}  // namespace ptq

// A tiny Llama checkpoint as data that tests can damage, and writers of its containers. The .bin writer assembles the
// zip and the pickle byte by byte, after the public descriptions of the formats.
#pragma once

#include "host/checkpoint.h"
#include "host/size.h"
#include "temporary.h"

#include <nlohmann/json.hpp>

#include <map>
#include <random>
#include <string>
#include <vector>

namespace ptq {

inline nlohmann::json tiny_config() {
  return {{"model_type", "llama"},         {"hidden_size", 16},        {"intermediate_size", 24},
          {"num_hidden_layers", 2},        {"num_attention_heads", 4}, {"num_key_value_heads", 2},
          {"max_position_embeddings", 64}, {"vocab_size", 40},         {"rms_norm_eps", 1e-5},
          {"rope_theta", 10000.0},         {"hidden_act", "silu"},     {"tie_word_embeddings", false},
          {"torch_dtype", "float32"},      {"bos_token_id", 1},        {"eos_token_id", {2, 3}}};
}

inline Tensor random_tensor(const Shape& shape, unsigned seed) {
  Tensor t = Tensor::empty(DType::f32, shape);
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  for (float& x : t.span<float>()) x = normal(random);
  return t;
}

inline std::map<std::string, Tensor> tiny_tensors() {
  std::map<std::string, Shape> shapes{
      {"model.embed_tokens.weight", {40, 16}}, {"model.norm.weight", {16}}, {"lm_head.weight", {40, 16}}};
  for (int i = 0; i < 2; ++i) {
    const std::string p = "model.layers." + std::to_string(i) + ".";
    shapes[p + "input_layernorm.weight"] = shapes[p + "post_attention_layernorm.weight"] = {16};
    shapes[p + "self_attn.q_proj.weight"] = shapes[p + "self_attn.o_proj.weight"] = {16, 16};
    shapes[p + "self_attn.k_proj.weight"] = shapes[p + "self_attn.v_proj.weight"] = {8, 16};
    shapes[p + "mlp.gate_proj.weight"] = shapes[p + "mlp.up_proj.weight"] = {24, 16};
    shapes[p + "mlp.down_proj.weight"] = {16, 24};
  }
  std::map<std::string, Tensor> tensors;
  for (const auto& [name, shape] : shapes) {
    tensors[name] = random_tensor(shape, static_cast<unsigned>(tensors.size()));
  }
  return tensors;
}

inline void put_tiny(const std::filesystem::path& dir, const nlohmann::json& config,
                     const std::map<std::string, Tensor>& tensors) {
  put(dir / "config.json", config.dump(1));
  write_safetensors(dir / "model.safetensors", tensors);
}

// Little-endian bytes.
template <class T>
std::string bytes_of(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

// --- pickle, protocol 2 ---
inline std::string pickle_text(const std::string& s) {
  return "X" + bytes_of(static_cast<std::uint32_t>(s.size())) + s;
}
inline std::string pickle_int(std::int64_t n) { return "\x8a\x08" + bytes_of(n); }
inline std::string pickle_ints(const Shape& values) {
  std::string out = "(";
  for (const std::int64_t n : values) out += pickle_int(n);
  return out + "t";
}

struct PickledView {
  std::string storage_class = "FloatStorage";
  std::string key;
  std::int64_t numel = 0, offset = 0;
  Shape shape, stride;
};

inline std::string pickle_tensor(const PickledView& v) {
  return "ctorch._utils\n_rebuild_tensor_v2\n((" + pickle_text("storage") + "ctorch\n" + v.storage_class + "\n" +
         pickle_text(v.key) + pickle_text("cpu") + pickle_int(v.numel) + "tQ" + pickle_int(v.offset) +
         pickle_ints(v.shape) + pickle_ints(v.stride) + "\x89" + "ccollections\nOrderedDict\n)RtR";
}

inline std::string pickle_dict(const std::vector<std::pair<std::string, std::string>>& items) {
  std::string out =
      "\x80\x02"
      "ccollections\nOrderedDict\n)R(";
  for (const auto& [name, value] : items) out += pickle_text(name) + value;
  // torch attaches the versions of modules.
  return out + "u}(" + pickle_text("_metadata") + "}ub.";
}

inline Shape row_major(const Shape& shape) {
  Shape stride(shape.size(), 1);
  for (std::size_t i = shape.size(); i-- > 1;) stride[i - 1] = stride[i] * shape[i];
  return stride;
}

inline std::string raw_bytes(const Tensor& t) { return {static_cast<const char*>(t.raw()), t.bytes()}; }

inline void expect_same(const Tensor& a, const Tensor& b) {
  ASSERT_EQ(a.dtype(), b.dtype());
  ASSERT_EQ(a.shape(), b.shape());
  EXPECT_EQ(raw_bytes(a), raw_bytes(b));
}

// A zip of stored entries. ZIP64 fields are forced with `wide`, as files above 4 GiB have them; `streamed` writes
// zeros and a data descriptor, as torch does.
inline std::string zip_of(const std::vector<std::pair<std::string, std::string>>& entries, bool wide = false,
                          bool streamed = false) {
  const auto u16 = [](std::size_t n) { return bytes_of(static_cast<std::uint16_t>(n)); };
  const auto u32 = [](std::size_t n) { return bytes_of(static_cast<std::uint32_t>(n)); };
  const auto u64 = [](std::size_t n) { return bytes_of(static_cast<std::uint64_t>(n)); };
  const std::string flags = u16(streamed ? 8 : 0);
  std::string body, directory;
  for (const auto& [name, content] : entries) {
    const std::size_t at = body.size(), size = content.size();
    const std::string sizes = streamed ? u32(0) + u32(0) : wide ? u32(~0u) + u32(~0u) : u32(size) + u32(size);
    const std::string local_extra = wide && !streamed ? u16(1) + u16(16) + u64(size) + u64(size) : "";
    body += "PK\x03\x04" + u16(20) + flags + u16(0) + u32(0) + u32(0) + sizes + u16(name.size()) +
            u16(local_extra.size()) + name + local_extra + content;
    if (streamed) body += "PK\x07\x08" + u32(0) + u32(size) + u32(size);
    const std::string extra = wide ? u16(1) + u16(24) + u64(size) + u64(size) + u64(at) : "";
    const std::string narrow = wide ? u32(~0u) : u32(size);
    directory += "PK\x01\x02" + u16(20) + u16(20) + flags + u16(0) + u32(0) + u32(0) + narrow + narrow +
                 u16(name.size()) + u16(extra.size()) + u16(0) + u16(0) + u16(0) + u32(0) +
                 (wide ? u32(~0u) : u32(at)) + name + extra;
  }
  std::string end;
  if (wide) {
    end += "PK\x06\x06" + u64(44) + u16(45) + u16(45) + u32(0) + u32(0) + u64(entries.size()) + u64(entries.size()) +
           u64(directory.size()) + u64(body.size());
    end += "PK\x06\x07" + u32(0) + u64(body.size() + directory.size()) + u32(1);
  }
  const std::string count = wide ? u16(0xffff) : u16(entries.size());
  end += "PK\x05\x06" + u16(0) + u16(0) + count + count + (wide ? u32(~0u) : u32(directory.size())) +
         (wide ? u32(~0u) : u32(body.size())) + u16(0);
  return body + directory + end;
}

// pytorch_model.bin of contiguous tensors, each with a storage of its own.
inline std::string torch_bin(const std::map<std::string, Tensor>& tensors) {
  std::vector<std::pair<std::string, std::string>> items, entries{{"archive/data.pkl", ""}};
  for (const auto& [name, t] : tensors) {
    const std::string key = std::to_string(items.size());
    items.emplace_back(
        name, pickle_tensor({.key = key, .numel = t.numel(), .shape = t.shape(), .stride = row_major(t.shape())}));
    entries.emplace_back("archive/data/" + key, raw_bytes(t));
  }
  entries[0].second = pickle_dict(items);
  entries.emplace_back("archive/version", "3\n");
  return zip_of(entries);
}

}  // namespace ptq

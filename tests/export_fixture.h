// A small model on disk and its exports in any format.
#pragma once

#include "device.h"
#include "quant/quantize_checkpoint.h"
#include "tiny_checkpoint.h"

#include <memory>
#include <random>
#include <set>

namespace ptq {

namespace fs = std::filesystem;
using Json = nlohmann::json;

inline Json model_config(const std::string& type) {
  Json c = tiny_config();
  c.update({{"model_type", type},
            {"hidden_size", 64},
            {"intermediate_size", 96},
            {"num_attention_heads", 4},
            {"num_key_value_heads", 2},
            {"torch_dtype", "float16"}});
  return c;
}

// Two layers whose sizes are multiples of 32, as GPTQ's readers want them.
inline std::map<std::string, Tensor> model_tensors(bool fused) {
  std::map<std::string, Shape> shapes{
      {"model.embed_tokens.weight", {40, 64}}, {"model.norm.weight", {64}}, {"lm_head.weight", {40, 64}}};
  for (int i = 0; i < 2; ++i) {
    const std::string p = fmt::format("model.layers.{}.", i);
    shapes[p + "input_layernorm.weight"] = shapes[p + "post_attention_layernorm.weight"] = {64};
    if (fused) {
      shapes[p + "self_attn.qkv_proj.weight"] = {128, 64};
      shapes[p + "mlp.gate_up_proj.weight"] = {192, 64};
    } else {
      shapes[p + "self_attn.q_proj.weight"] = {64, 64};
      shapes[p + "self_attn.k_proj.weight"] = shapes[p + "self_attn.v_proj.weight"] = {32, 64};
      shapes[p + "mlp.gate_proj.weight"] = shapes[p + "mlp.up_proj.weight"] = {96, 64};
    }
    shapes[p + "self_attn.o_proj.weight"] = {64, 64};
    shapes[p + "mlp.down_proj.weight"] = {64, 96};
  }
  std::map<std::string, Tensor> tensors;
  for (const auto& [name, shape] : shapes) {
    Tensor t = random_tensor(shape, static_cast<unsigned>(tensors.size()));
    for (float& v : t.span<float>()) v = shape.size() == 1 ? 1.0f + 0.1f * v : 0.15f * v;
    tensors[name] = t;
  }
  return tensors;
}

class Export : public ::testing::Test {
 protected:
  void SetUp() override { write_model("llama"); }

  void write_model(const std::string& type) {
    fs::create_directories(dir / "model");
    tensors = model_tensors(type == "phi3");
    put_tiny(dir / "model", model_config(type), tensors);
  }

  static QuantSpec spec_of(std::string_view scheme, Method method) {
    QuantSpec spec = defaults_of(method);
    apply_scheme(spec, scheme);
    return spec;
  }

  QuantizeJob job(ExportFormat format, std::string_view scheme, Method method = Method::rtn) const {
    QuantizeJob j;
    j.model = dir / "model";
    j.output = dir / std::string(name_of(format));
    j.force = true;
    j.spec = spec_of(scheme, method);
    j.format = format;
    return j;
  }

  static std::vector<Window> windows() {
    std::mt19937 random(3);
    std::vector<Window> all(6);
    for (Window& w : all) {
      w.resize(24);
      for (auto& id : w) id = static_cast<std::int32_t>(random() % 40);
    }
    return all;
  }

  fs::path run(const QuantizeJob& j) const {
    quantize_checkpoint(ops(), j, needs_calibration(j.spec) ? windows() : std::vector<Window>{}, {{"set", "test"}});
    return j.output;
  }

  std::set<std::string> listing() const {
    std::set<std::string> names;
    for (const auto& entry : fs::directory_iterator(dir.path())) names.insert(entry.path().filename().string());
    return names;
  }

  void refused(Exit code, const QuantizeJob& j, std::string_view part) const {
    const auto before = listing();
    expect_error(code, part, [&] { run(j); });
    EXPECT_EQ(listing(), before);
  }

  TemporaryDirectory dir;
  std::map<std::string, Tensor> tensors;
};

}  // namespace ptq

// ModelFiles: a checkpoint directory as config plus named weights. The tensor-name table of every family lives in
// model/weights.cpp; opening compares it with what the files hold (names, shapes, dtypes) before anything is read.
#pragma once

#include "host/checkpoint.h"
#include "model/activation_quant.h"
#include "model/config.h"
#include "model/packed_format.h"

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace ptq {

// The linears of a block in the order in which a forward pass meets them. Ungated families have no gate.
enum class LinearRole : std::uint8_t { q, k, v, o, gate, up, down };
inline constexpr std::array all_linear_roles{LinearRole::q,    LinearRole::k,  LinearRole::v,   LinearRole::o,
                                             LinearRole::gate, LinearRole::up, LinearRole::down};

enum class NormRole : std::uint8_t {
  attention_in,   // norm1: before attention (OPT-350m: after it)
  attention_out,  // sandwich and output_norm: on the attention branch
  mlp_in,         // norm2
  mlp_out,        // sandwich and output_norm: on the MLP branch
  q,              // q/k norms
  k,
};
inline constexpr std::array all_norm_roles{
    NormRole::attention_in, NormRole::attention_out, NormRole::mlp_in, NormRole::mlp_out, NormRole::q, NormRole::k};

// Where a weight lives: a whole tensor or rows [begin, end) of a fused one (Phi-3 qkv_proj, gate_up_proj).
struct WeightRef {
  std::string tensor;
  std::int64_t begin = 0, end = -1;
  std::string module;  // Hugging Face module path of the logical linear, "model.layers.0.self_attn.q_proj"
};

class ModelFiles {
 public:
  // Reads and validates config, card and headers. Missing or misshapen tensors and those of a wrong type are errors
  // (65) by name. In a packed checkpoint a linear is packed if its packed tensors are there; else it must be in floats.
  // Tensors that the config does not call for are listed in unexpected() and never used; rotary_emb.inv_freq and a
  // tied head's stored lm_head.weight are ignored.
  static ModelFiles open(const std::filesystem::path& directory);

  // The same model with other values in some of its tensors (model/overlay.h), run with other activations.
  ModelFiles with(std::shared_ptr<const Checkpoint> checkpoint, ActivationQuant activations) const;

  const ModelConfig& config() const { return config_; }
  const std::filesystem::path& directory() const { return directory_; }
  const Checkpoint& checkpoint() const { return *checkpoint_; }
  const std::vector<std::string>& unexpected() const { return unexpected_; }
  // The tensor's name in the files: some lack the leading "model." of logical names.
  std::string stored_name(const std::string& name) const;
  std::int64_t parameters() const;  // of the network, however they are stored; a tied head counts once

  // How the linears are stored, and how activations are to be quantized while the model runs (from ptq.json, else from
  // the packed checkpoint's config).
  const PackedConfig& packed() const { return packed_; }
  const ActivationQuant& activations() const { return activations_; }

  bool has_linear(LinearRole role) const;  // false only for gate in ungated families
  bool is_packed(int layer, LinearRole role) const;
  // The linear as stored integers; empty if it is stored in floats. Fused modules give the rows of the role.
  std::optional<CodedWeight> linear_codes(int layer, LinearRole role) const;  // gptq, awq_gemm, pack_quantized
  std::optional<Int8Weight> linear_int8(int layer, LinearRole role) const;    // int_quantized
  WeightRef linear_ref(int layer, LinearRole role) const;            // of a packed linear: where its floats would be
  Tensor linear_weight(int layer, LinearRole role, DType as) const;  // [N, I]; dequantized if it is packed
  Tensor linear_bias(int layer, LinearRole role, DType as) const;    // [N] or empty
  Tensor norm_weight(int layer, NormRole role, DType as) const;      // [D] ([H,C], [C], [H*C] for q/k) or empty
  Tensor norm_bias(int layer, NormRole role, DType as) const;        // [D] or empty

  Tensor embedding(DType as) const;                       // [V, W]
  Tensor embedding_row(std::int64_t id, DType as) const;  // [1, W]
  Tensor position_table(DType as) const;                  // [max_position + 2, D] or empty
  Tensor project_in(DType as) const;                      // [D, W] or empty
  Tensor project_out(DType as) const;                     // [W, D] or empty
  Tensor final_norm_weight(DType as) const;               // [D] or empty
  Tensor final_norm_bias(DType as) const;
  Tensor head(DType as) const;  // [V, W]; the embedding when tied

 private:
  Tensor read(const std::string& name, DType as) const;  // by logical name; empty if the model has no such tensor
  bool holds_floats(const std::string& name) const;
  void expect_packed();
  void check_tensors();

  // A module whose linear (or fused linears) is packed.
  struct Packed {
    std::string module;  // as stored
    Shape shape;         // [N, I], of the whole module
  };
  const Packed* packed_of(const WeightRef& logical) const;  // null if it is stored in floats

  ModelConfig config_;
  PackedConfig packed_;
  ActivationQuant activations_;
  std::filesystem::path directory_;
  std::shared_ptr<const Checkpoint> checkpoint_;
  std::map<std::string, Shape> expected_;                // in floats, by logical name
  std::map<std::string, PackedTensor> expected_packed_;  // by stored name
  std::map<std::string, Packed> packed_modules_;         // by the logical name of the tensor that they replace
  std::vector<std::string> unexpected_;
};

}  // namespace ptq

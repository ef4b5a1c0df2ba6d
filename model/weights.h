// ModelFiles: a checkpoint directory as config plus named weights. The tensor-name table of every family lives in
// model/weights.cpp; opening compares it with what the files hold (names, shapes, dtypes) before anything is read.
#pragma once

#include "host/checkpoint.h"
#include "model/config.h"

#include <array>
#include <map>
#include <memory>
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

// Where a weight lives: a whole tensor or rows [begin, end) of a fused one (Phi-3 qkv_proj, gate_up_proj).
struct WeightRef {
  std::string tensor;
  std::int64_t begin = 0, end = -1;
  std::string module;  // Hugging Face module path of the logical linear, "model.layers.0.self_attn.q_proj"
};

class ModelFiles {
 public:
  // Reads and validates config and headers. Missing or misshapen tensors and integer weights are errors (65) by name.
  // Tensors that the config does not call for are listed in unexpected() and never used; rotary_emb.inv_freq and a
  // tied head's stored lm_head.weight are ignored.
  static ModelFiles open(const std::filesystem::path& directory);

  const ModelConfig& config() const { return config_; }
  const std::filesystem::path& directory() const { return directory_; }
  const Checkpoint& checkpoint() const { return *checkpoint_; }
  const std::vector<std::string>& unexpected() const { return unexpected_; }

  bool has_linear(LinearRole role) const;  // false only for gate in ungated families
  WeightRef linear_ref(int layer, LinearRole role) const;
  Tensor linear_weight(int layer, LinearRole role, DType as) const;  // [N, I]
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
  std::string stored_name(const std::string& name) const;
  Tensor read(const std::string& name, DType as) const;  // by logical name; empty if the model has no such tensor
  void check_tensors();

  ModelConfig config_;
  std::filesystem::path directory_;
  std::shared_ptr<const Checkpoint> checkpoint_;
  std::map<std::string, Shape> expected_;  // by logical name
  std::vector<std::string> unexpected_;
};

}  // namespace ptq

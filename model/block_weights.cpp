#include "model/block_weights.h"

namespace ptq {

BlockWeights load_block_weights(const ModelFiles& files, int layer) {
  BlockWeights block;
  const auto own = [](const Tensor& t) { return t ? t.clone() : t; };
  for (LinearRole role : all_linear_roles) {
    if (!files.has_linear(role)) continue;
    block[role] = own(files.linear_weight(layer, role, DType::f32));
    block.bias[static_cast<std::size_t>(role)] = own(files.linear_bias(layer, role, DType::f32));
  }
  for (NormRole role : all_norm_roles) {
    block.norm_weight[static_cast<std::size_t>(role)] = own(files.norm_weight(layer, role, DType::f32));
    block.norm_bias[static_cast<std::size_t>(role)] = own(files.norm_bias(layer, role, DType::f32));
  }
  return block;
}

}  // namespace ptq

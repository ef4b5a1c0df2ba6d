// One block's parameters on the host in fp32, to be changed before they are used: scales folded into norms and linears
// (AWQ, SmoothQuant), outliers injected, weights quantized.
#pragma once

#include "model/weights.h"

namespace ptq {

struct BlockWeights {
  std::array<Tensor, all_linear_roles.size()> weight, bias;  // by LinearRole; [N,I], [N]; empty if the family has none
  std::array<Tensor, 6> norm_weight, norm_bias;              // by NormRole, as stored (Gemma: gain - 1)

  Tensor& operator[](LinearRole role) { return weight[static_cast<std::size_t>(role)]; }
  const Tensor& operator[](LinearRole role) const { return weight[static_cast<std::size_t>(role)]; }
};

// Copies that the caller may change.
BlockWeights load_block_weights(const ModelFiles& files, int layer);

}  // namespace ptq

// GPTQ of one weight matrix (Frantar et al., arXiv 2210.17323; spec A.3, A.5, A.6; order of steps as in
// IST-DASLab/gptq gptq.py): columns are rounded one after another, and each one's error is spread over those that are
// still to come so that the layer's output changes least.
#pragma once

#include "quant/hessian.h"
#include "quant/quantized_matrix.h"

namespace ptq {

// W [N,K] f32 on the host; `factor` of its inputs' Hessian. If the factor is empty (SingularPolicy::rtn), W is rounded
// to nearest. N K^2 flops.
QuantizedMatrix quantize_gptq(Ops& ops, const Tensor& w, const HessianFactor& factor, const QuantSpec& spec);

}  // namespace ptq

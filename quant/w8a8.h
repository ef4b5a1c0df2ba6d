// Naive W8A8 weights: int8, symmetric, scale = max(absmax, 1e-5) / 127 per output channel (spec C.4, D.1; source:
// SmoothQuant fake_quant.py). Activations are quantized per token while the model runs.
#pragma once

#include "quant/quantized_matrix.h"

namespace ptq {

// W [N,K] f32 on the host. codes are i8 in -127..127, scales [N,1], zeros 0. Quantizing the result again, even after
// rounding it to float16, gives the same codes: the largest entry of a row is 127 scale up to one rounding. bfloat16
// is too coarse for that (8 bits beside a code's 7, twice).
QuantizedMatrix quantize_w8a8(Ops& ops, const Tensor& w);

}  // namespace ptq

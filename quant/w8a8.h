// Weights by the absmax rule: signed integers, scale = max(absmax, 1e-5) / (2^(bits-1) - 1) per output channel or for
// the whole weight (spec C.4, D.1; source: SmoothQuant fake_quant.py). Activations are quantized while the model runs.
#pragma once

#include "quant/quantized_matrix.h"

namespace ptq {

// W [N,K] f32 on the host, bits 2..8. codes are i8 in -127..127 (8 bits), scales [N,1] (equal if per tensor), zeros 0.
// Quantizing the result again, even after rounding it to float16, gives the same codes: the largest entry of a row is
// 127 scale up to one rounding. bfloat16 is too coarse for that (8 bits beside a code's 7, twice).
QuantizedMatrix quantize_absmax(Ops& ops, const Tensor& w, int bits = 8, bool per_tensor = false);

}  // namespace ptq

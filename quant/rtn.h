// Round to nearest: every group of a row gets the grid of its own range (spec A.1). No calibration.
#pragma once

#include "quant/quantized_matrix.h"
#include "quant/scheme.h"

namespace ptq {

// W [N,K] f32 on the host. A last group shorter than spec.group is allowed.
QuantizedMatrix quantize_rtn(Ops& ops, const Tensor& w, const QuantSpec& spec);

// The group of each of K columns in their own order: k / group, or 0 for whole rows. [K] i32
Tensor column_groups(std::int64_t columns, std::int64_t group);

}  // namespace ptq

// AWQ and SmoothQuant on one weight matrix without the model around it: the scale per input channel is assumed to have
// a place in front of the matrix, and AWQ compares the matrix's own output, as it does for an output projection.
#pragma once

#include "quant/awq_search.h"
#include "quant/quantized_matrix.h"

#include <vector>

namespace ptq {

struct ScaledMatrix {
  QuantizedMatrix m;     // codes, scales and zeros of W diag(t), clipped; q in W's own scale: divided by t again
  std::vector<float> t;  // [K]
  ScaleSearch search;    // AWQ
};

// W [N,K] f32 and inputs X [T,K] f32, both on the host. Exit 2 if the group does not divide K.
ScaledMatrix quantize_awq_matrix(Ops& ops, const Tensor& w, const Tensor& x, const QuantSpec& spec);

// spec.alpha, or 0.8.
ScaledMatrix quantize_smooth_matrix(Ops& ops, const Tensor& w, const Tensor& x, const QuantSpec& spec);

}  // namespace ptq

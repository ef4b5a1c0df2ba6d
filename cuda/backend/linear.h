// What the products of this backend share on the host side.
#pragma once

#include "cuda/stream.h"
#include "host/ops.h"

namespace ptq::cuda {

// x [T,I] if its rows begin at multiples of 16 bytes, else a copy [T,ld] of which I columns count, zeros behind.
Tensor aligned_rows(Ops& ops, Stream stream, const Tensor& x);

// Whether linear() forms the weight's values from codes.
bool coded(const Weight& w);
// The dtype of activations that linear() takes for this weight; exit 70 for s8.
DType input_of(const Weight& w);

}  // namespace ptq::cuda

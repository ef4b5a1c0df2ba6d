// What the products of this backend share on the host side.
#pragma once

#include "cuda/stream.h"
#include "host/ops.h"

namespace ptq::cuda {

// x [T,I] if its rows begin at multiples of 16 bytes, else a copy [T,ld] of which I columns count, zeros behind.
Tensor aligned_rows(Ops& ops, Stream stream, const Tensor& x);

// Checks y [T,N], x [T,I] and b [N] against the weight, as `op`.
void check_linear(const char* op, DType y_type, const Tensor& y, const Tensor& x, const Weight& w, const Tensor& b);

}  // namespace ptq::cuda

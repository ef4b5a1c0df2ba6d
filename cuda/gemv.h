// Products of a few rows with a weight, bound by reading the weight once: the linears of decoding.
#pragma once

#include "cuda/coded.h"

namespace ptq::cuda {

constexpr int gemv_most_rows = 16;

// y [R,N] of y_type = x W^T + b; x [R, ldx] of `type`, b [N] or null. R at most 16; a row's bits do not
// depend on R. Rows of x begin at multiples of 16 bytes and, if ldx > I, end with zeros.
struct FewRows {
  void* y;
  DType y_type;  // f32 or that of x
  const void* x;
  DType type;  // f32, bf16 or f16
  const float* b;
  std::int64_t rows, n, i, ldx;  // R, N, I
};

// w [N, ld] of the type of x; rows begin at multiples of 16 bytes and end with zeros from I to ld.
void gemv_float(const FewRows& p, const void* w, std::int64_t ld, Stream stream);
void gemv_coded(const FewRows& p, const CodedView& w, Stream stream);

}  // namespace ptq::cuda

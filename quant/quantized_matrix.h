// The result of quantizing one weight matrix W [N,K]: w_hat[n,k] = scales[n,g] * (codes[n,k] - zeros[n,g]) with
// g = g_idx[k]. All tensors are on the host, columns in W's own order.
#pragma once

#include "host/ops.h"

#include <cstdint>
#include <string>
#include <vector>

namespace ptq {

struct QuantizedMatrix {
  Tensor q;              // [N,K] f32, dequantized
  Tensor codes;          // [N,K] u8 (absmax rule: i8; nf4: book index, scales [ceil(N K / block), 1] absmax in order)
  Tensor scales, zeros;  // [N,G] f32; with act-order and no static groups, groups count in processing order
  Tensor g_idx;          // [K] i32
  Tensor err_rows;       // [N] f64: GPTQ: sum (w - q)^2 / U_jj^2 / 2; else sum (w - q)^2
  Tensor perm;           // [K] i32, perm[j] = column processed j-th; empty without act-order
};

// ||q - w||^2 / ||w||^2, 0 for a zero matrix. Both [N,K] f32 on the host.
double relative_error(const Tensor& w, const Tensor& q);

// [N] f64: sum over columns of (w - q)^2.
Tensor squared_error_rows(const Tensor& w, const Tensor& q);

// Exit 76 unless every value is finite. `where` names the tensor.
void require_finite(Ops& ops, const Tensor& values, const std::string& where);

}  // namespace ptq

// H += X^T X, and the loss tr(D G D^T).
#pragma once

#include "cuda/stream.h"
#include "host/dtype.h"

#include <cstdint>

namespace ptq::cuda {

// h [n,n], x [tokens,n] of type x_type (f32, bf16, f16). The upper triangle is valid.
void gram(float* h, const void* x, DType x_type, std::int64_t tokens, std::int64_t n, Stream stream);

// d [rows,n], g [n,n]: tr(D G D^T) is the sum of partial [gram_loss_partials(rows, n)], in order.
std::int64_t gram_loss_partials(std::int64_t rows, std::int64_t n);
void gram_loss(double* partial, const float* d, const float* g, std::int64_t rows, std::int64_t n, Stream stream);

}  // namespace ptq::cuda

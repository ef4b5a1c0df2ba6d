// int8 x int8 products with scales per row and column (gemm_s8.cu), and the layouts they need (gemm_s8_layout.cu).
#pragma once

#include "cuda/stream.h"
#include "host/dtype.h"

#include <cstdint>

namespace ptq::cuda {

// Bytes between the starts of rows of codes: whole 16-byte copies.
constexpr std::int64_t s8_stride(std::int64_t columns) { return (columns + 15) / 16 * 16; }

// Values between the starts of rows of outlier weights: the columns of y that a lane has at once.
constexpr std::int64_t s8_outlier_stride(std::int64_t n) { return (n + 7) / 8 * 8; }

struct GemmS8 {
  void* y;                       // (T, N) of `dtype`
  DType dtype;                   // f32, bf16 or f16
  const std::int8_t* x;          // (T, stride), 16-byte aligned
  const float* x_scales;         // (T)
  const std::int8_t* w;          // (N, stride), 16-byte aligned
  const float* w_scales;         // (N)
  const float* bias;             // (N) or null
  const float* outliers;         // (T, C) or null
  const float* outlier_weights;  // (C, s8_outlier_stride(N)) or null
  std::int64_t rows, n;          // T, N
  std::int64_t stride;           // of rows of codes, a multiple of 16: what is beyond the last column must be 0
  std::int64_t outlier_columns;  // C
};

// y[t,j] = sum_k x[t,k] w[j,k] * (x_scales[t] * w_scales[j]) + sum_c outliers[t,c] outlier_weights[c,j] + bias[j]
void gemm_s8(const GemmS8& g, Stream stream);

// to (T, stride) = from (T, columns), then zeros
void pad_codes(std::int8_t* to, std::int64_t stride, const std::int8_t* from, std::int64_t rows, std::int64_t columns,
               Stream stream);

// to (C, s8_outlier_stride(N)): to[c,j] = codes[j, columns[c]] * scales[j], beyond N zeros; codes (N, stride)
void gather_code_columns(float* to, const std::int8_t* codes, std::int64_t stride, const float* scales,
                         const std::int32_t* columns, std::int64_t n, std::int64_t count, Stream stream);

}  // namespace ptq::cuda

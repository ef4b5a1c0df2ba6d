// Rows of floats to symmetric integers (quantize_rows.cu).
#pragma once

#include "cuda/stream.h"
#include "host/dtype.h"

#include <cstdint>

namespace ptq::cuda {

// Rows of a matrix (T, I) of floats, one after the other.
struct FloatRows {
  const void* data;
  DType dtype;  // f32, bf16 or f16
  std::int64_t rows, columns;
};

// absmax (T)
void row_absmax(float* absmax, const FloatRows& x, Stream stream);

// codes (T, I); scales (T); absmax (T) or null: each row's own
void quantize_rows(std::int8_t* codes, float* scales, const FloatRows& x, int bits, const float* absmax, Stream stream);

// y (T, I) of x's type, may be x
void fake_quantize_rows(void* y, const FloatRows& x, int bits, const float* absmax, Stream stream);

}  // namespace ptq::cuda

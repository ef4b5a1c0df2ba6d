// Dense products y = x W^T of floats: on tensor cores for bf16 and f16 (gemm.cu), on the fp32 units for f32
// (gemm_f32.cu). Sums are fp32, one per output, in the order of k: a row's result depends neither on T nor on N.
#pragma once

#include "cuda/stream.h"
#include "host/dtype.h"

#include <cstddef>
#include <cstdint>

namespace ptq::cuda {

// The operands. Rows of both begin at multiples of 16 bytes (base and leading dimension).
struct GemmShape {
  DType type = DType::f32;  // of x and w
  const void* x = nullptr;  // [T, ldx], I columns used
  const void* w = nullptr;  // [N, ldw], zeros in the columns from I to ldw = padded_depth(I)
  std::int64_t ldx = 0, ldw = 0;
  std::int64_t rows = 0, columns = 0, depth = 0;  // T, N, I
};

// I rounded up to whole tiles of k, which are 64 bytes.
constexpr std::int64_t padded_depth(std::int64_t depth, DType type) {
  const auto unit = static_cast<std::int64_t>(64 / size_of(type));
  return (depth + unit - 1) / unit * unit;
}

// y [T,N] of g.type = x W^T + bias; bias [N] or null.
void gemm(void* y, const GemmShape& g, const float* bias, Stream stream);      // any float type
void gemm_f32(void* y, const GemmShape& g, const float* bias, Stream stream);  // f32 only; gemm() calls it

// to [T, ld] of to_type = x [T, I] of x_type, with zeros from I to ld: for matrices whose rows do not begin at multiples
// of 16 bytes, or that are of another float type.
void pad_rows(void* to, DType to_type, std::int64_t ld, const void* x, DType x_type, std::int64_t rows,
              std::int64_t depth, Stream stream);

}  // namespace ptq::cuda

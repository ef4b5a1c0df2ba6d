// The memory-bound layers of the forward pass. Letters and meaning: host/ops.h. dtype is that of all void* tensors of a
// call: f32, bf16 or f16. Indices are trusted. Rows may lie at any multiple of their elements' size.
#pragma once

#include "cuda/stream.h"
#include "host/dtype.h"
#include "host/ops.h"

#include <cstdint>

namespace ptq::cuda {

// y [T,D] = table[ids[t]] * scale; table [V,D]
void embed(void* y, const std::int32_t* ids, const void* table, DType dtype, std::int64_t rows, std::int64_t width,
           float scale, Stream stream);

// x [T,D] += table[index[t]]; table [P,D]
void add_rows(void* x, const std::int32_t* index, const void* table, DType dtype, std::int64_t rows, std::int64_t width,
              Stream stream);

// y [R, row_bytes] = x[rows[r]]: bytes of any type
void gather_rows(void* y, const void* x, const std::int32_t* rows, std::int64_t count, std::int64_t row_bytes,
                 Stream stream);

// y, x [R,D], may be the same; w, b [gains,D], b may be null
void norm(void* y, const void* x, const float* w, const float* b, DType dtype, std::int64_t rows, std::int64_t width,
          std::int64_t gains, const NormSpec& spec, Stream stream);

// x [T, heads * head_dim] in place; cos, sin [T, pairs]
void rope(void* x, const float* cos, const float* sin, DType dtype, std::int64_t rows, int heads, int head_dim,
          int pairs, RopeStyle style, Stream stream);

// y, gate, up [n]; up may be null, y may be gate
void activate(void* y, const void* gate, const void* up, DType dtype, std::int64_t n, Activation act, Stream stream);

// x [n] += y [n], which may be the same
void add(void* x, const void* y, DType dtype, std::int64_t n, Stream stream);

}  // namespace ptq::cuda

// The memory-bound layers of the forward pass. Letters and meaning: host/ops.h. dtype is that of all void* tensors of a
// call: f32, bf16 or f16. Rows may lie at any multiple of their elements' size.
#pragma once

#include "cuda/stream.h"
#include "host/dtype.h"
#include "host/ops.h"

#include <cstdint>

namespace ptq::cuda {

// Row numbers of a table. Only the device can see them without waiting: a kernel leaves out the row of a number that
// the table does not have, and tells of it.
struct RowIndex {
  const std::int32_t* rows;  // [T], should be in 0 .. limit - 1
  std::int64_t limit;
  std::int32_t* fault;  // becomes `op` if one is not; memory that the host can read
  std::int32_t op;
};

// y [T,D] = table[index[t]] * scale; table [limit,D]
void embed(void* y, const RowIndex& index, const void* table, DType dtype, std::int64_t rows, std::int64_t width,
           float scale, Stream stream);

// y [T,D] += table[index[t]]
void add_rows(void* y, const RowIndex& index, const void* table, DType dtype, std::int64_t rows, std::int64_t width,
              Stream stream);

// y [T, row_bytes] = x[index[t]]: bytes of any type
void gather_rows(void* y, const RowIndex& index, const void* x, std::int64_t count, std::int64_t row_bytes,
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

// The LM head: logits, and log-probabilities of targets without rows of logits. The latter in two steps: statistics of
// parts of every row, each with the logits of the targets in it, then their combination.
#pragma once

#include "cuda/gemm.h"

namespace ptq::cuda {

// LogitSpec of host/ops.h: logits = cap(scale x W^T), no cap if it is 0.
struct LogitMap {
  float scale = 1.0f, soft_cap = 0.0f;
};

// A part of a row is what one block sees; sum e^logit over it is sum * e^max.
struct LogitParts {
  float* parts = nullptr;                // [R, P, (max, sum)]
  float* target_logits = nullptr;        // [n]
  const std::int32_t* begin = nullptr;   // [R + 1]: row r has the targets begin[r] .. begin[r + 1] - 1
  const std::int32_t* tokens = nullptr;  // [n]
  std::int64_t rows = 0, count = 0;      // R, P = parts_of_row()
};

// Parts of a row of V logits from operands of this type.
std::int64_t parts_of_row(std::int64_t vocabulary, DType type);

// y [R,V] f32 = cap(scale x W^T)
void gemm_logits(float* y, const GemmShape& g, LogitMap map, Stream stream);
// The same of y = x W^T, in place.
void transform_logits(float* y, std::int64_t count, LogitMap map, Stream stream);

// Fills p.parts and p.target_logits from x [R,I] and W [V,I], or from y = x W^T [R,V], x of this type: the same bits.
void logit_statistics(const LogitParts& p, const GemmShape& g, LogitMap map, Stream stream);
void logit_statistics(const LogitParts& p, DType type, const float* y, std::int64_t vocabulary, LogitMap map,
                      Stream stream);

// logprobs [n] = target_logits - log sum e^logit of the row, for the targets of p's rows.
void combine_logprobs(double* logprobs, const LogitParts& p, Stream stream);

}  // namespace ptq::cuda

// What NVIDIA's libraries leave to be done (finish.cu): the epilogues of their products, and the triangle that
// cuSOLVER does not touch.
#pragma once

#include "cuda/gemm_s8.h"

namespace ptq::cuda {

// g.y = scales, outliers and bias of `g` (gemm_s8.h) applied to sums [T,N], with the bits of gemm_s8. g.x, g.w unread.
void finish_s8(const GemmS8& g, const std::int32_t* sums, Stream stream);

// y [T,N] of `dtype` = sums [T,N] + bias [N], rounded once
void finish_biased(void* y, DType dtype, const float* sums, const float* bias, std::int64_t rows, std::int64_t n,
                   Stream stream);

// The strict lower triangle of h [n,n] = 0; failed [1] becomes 1 if one of `infos` [count] is not 0.
void finish_factor(float* h, std::int32_t* failed, const std::int32_t* infos, int count, std::int64_t n, Stream stream);

}  // namespace ptq::cuda

// The rungs of the ladder for GEMM (docs/ladder-gemm.md). Each has the contract of gemm() in cuda/gemm.h, for bf16 and
// f16: y [T,N] of g.type = x W^T + bias, sums in fp32 in the order of k; bias [N] or null. Another type: exit 70.
#pragma once

#include "cuda/gemm.h"

namespace ptq::cuda {

void gemm_naive(void* y, const GemmShape& g, const float* bias, Stream stream);      // one thread an output
void gemm_tiled(void* y, const GemmShape& g, const float* bias, Stream stream);      // tiles in shared memory
void gemm_tensor(void* y, const GemmShape& g, const float* bias, Stream stream);     // products on tensor cores
void gemm_pipelined(void* y, const GemmShape& g, const float* bias, Stream stream);  // loads ahead of the products

}  // namespace ptq::cuda

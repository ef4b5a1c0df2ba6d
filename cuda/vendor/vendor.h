// NVIDIA's libraries behind the interface of the own launchers: what they are measured against (`ptq bench`), and
// --gemm cublas.
#pragma once

#include "cuda/backend/launchers.h"

namespace ptq::cuda {

// Puts them in place of
//   gemm, gemv_float   cublasLt, with fp32 sums (lt_products.h); a bias of halves is added to fp32 sums by a kernel of
//                      its own, because cublasLt would round it first
//   gemm_s8            cublasLt to s32, then a kernel for scales, outliers and bias. The own one where N is not a
//                      multiple of 4, which cublasLt refuses
//   gram               f32: cublasSsyrk; halves: cublasLt with fp32 sums, which forms both triangles
//   factor_inverse     potrf, potri, potrf of cuSOLVER, as the reference implementation of GPTQ
// and leaves the rest. Exit 69 if a library is not there.
void install_vendor(Launchers& launchers);

}  // namespace ptq::cuda

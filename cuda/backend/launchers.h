// The launchers that can be exchanged: for a vendor's library (cuda/vendor), to measure against, or for a rung of the
// teaching ladder (cuda/steps). Whatever stands here has the signature and the contract of the production launcher.
#pragma once

#include "cuda/attention.h"
#include "cuda/factor.h"
#include "cuda/gemm.h"
#include "cuda/gemm_s8.h"
#include "cuda/gemv.h"
#include "cuda/gptq.h"
#include "cuda/gram.h"

#include <functional>

namespace ptq::cuda {

struct Launchers {
  std::function<decltype(cuda::gemm)> gemm = cuda::gemm;
  std::function<decltype(cuda::gemm_s8)> gemm_s8 = cuda::gemm_s8;
  std::function<decltype(cuda::gemv_float)> gemv_float = cuda::gemv_float;
  std::function<decltype(cuda::attention)> attention = cuda::attention;  // bf16, f16
  std::function<decltype(cuda::gram)> gram = cuda::gram;
  std::function<decltype(cuda::factor_inverse<float>)> factor_inverse = cuda::factor_inverse<float>;
  std::function<decltype(cuda::gptq_sweep)> gptq_sweep = cuda::gptq_sweep;
  std::function<decltype(cuda::sweep_scratch)> sweep_scratch = cuda::sweep_scratch;  // of that sweep
};

}  // namespace ptq::cuda

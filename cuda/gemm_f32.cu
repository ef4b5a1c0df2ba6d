// GEMM of f32
//   formula   y[t,n] = b[n] + sum_i x[t,i] w[n,i], the sum a chain of fmaf over i ascending
//   shapes    y (T, N)   x (T, I)   w (N, I)   b (N) or none
//   maps      block ↔ 128 x 128 outputs, warp ↔ 64 x 32, lane ↔ 8 rows x 8 columns (gemm.cuh)
//   cost      2 T N I flops on the fp32 units: compute-bound
//   twin      host/cpu/matmul.cpp     test  tests/test_ops_products.cpp     chain  I
#include "cuda/gemm_f32.cuh"

namespace ptq::cuda {

void gemm_f32(void* y, const GemmShape& g, const float* bias, Stream stream) {
  const auto bytes = static_cast<std::size_t>(g.rows * g.columns) * sizeof(float);
  launch_gemm<float>("gemm_f32", StoreLinear<float>{static_cast<float*>(y), bias}, g, bytes, stream);
}

}  // namespace ptq::cuda

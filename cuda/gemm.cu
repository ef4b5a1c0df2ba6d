// GEMM of bf16 and f16 on tensor cores
//   formula   y[t,n] = round(b[n] + sum_i x[t,i] w[n,i]): products exact, sums in fp32 over i ascending, 16 at a time
//   shapes    y (T, N)   x (T, I)   w (N, I)   b (N) f32 or none
//   maps      block ↔ 128 x 256 outputs (64 x 64 where that leaves SMs idle), warp ↔ 64 x 64, lane ↔ 8 rows x 2 runs
//             of 8 columns; k in steps of 32 through 4 stages of shared memory (gemm.cuh)
//   cost      2 T N I flops: compute-bound; reads x and w once from memory, each T / 128 and N / 256 times from L2
//   twin      host/cpu/matmul.cpp     test  tests/test_ops_products.cpp     chain  I
#include "cuda/gemm.cuh"
#include "cuda/types.h"

namespace ptq::cuda {

namespace {

constexpr int pad_threads = 256;

// Block ↔ a row; thread ↔ elements i ≡ threadIdx (mod 256).
template <class To, class From>
__global__ void __launch_bounds__(pad_threads) pad_rows_kernel(To* __restrict__ to,         // (T, ld)
                                                               const From* __restrict__ x,  // (T, I)
                                                               std::int64_t ld, std::int64_t depth) {
  const std::int64_t row = blockIdx.x;
  for (std::int64_t i = threadIdx.x; i < ld; i += pad_threads)
    to[row * ld + i] = round_to<To>(i < depth ? as_float(x[row * depth + i]) : 0.0f);
}

}  // namespace

void gemm(void* y, const GemmShape& g, const float* bias, Stream stream) {
  if (g.type == DType::f32) return gemm_f32(y, g, bias, stream);
  visit_half(g.type, [&](auto type) {
    using T = decltype(type);
    const auto bytes = static_cast<std::size_t>(g.rows * g.columns) * sizeof(T);
    launch_gemm<T>("gemm", StoreLinear<T>{static_cast<T*>(y), bias}, g, bytes, stream);
  });
}

void pad_rows(void* to, DType to_type, std::int64_t ld, const void* x, DType x_type, std::int64_t rows,
              std::int64_t depth, Stream stream) {
  visit_float(to_type, [&]<class To>(To) {
    visit_float(x_type, [&]<class From>(From) {
      launch("pad_rows", pad_rows_kernel<To, From>,
             {.grid = static_cast<unsigned>(rows),
              .block = pad_threads,
              .stream = stream,
              .bytes = static_cast<double>(rows) * static_cast<double>(sizeof(To) * ld + sizeof(From) * depth)},
             static_cast<To*>(to), static_cast<const From*>(x), ld, depth);
    });
  });
}

}  // namespace ptq::cuda

// What NVIDIA's libraries leave to be done after their products and factorisations
//   formula   finish_product: y[t,j] = round(sums[t,j] * (x_scales[t] * w_scales[j]) + sum_c outliers[t,c] v[c,j]
//             + bias[j]), without the scales where sums are floats;   finish_factor: h[i,j] = 0 for j < i
//   shapes    y, sums (T, N)   outliers (T, C)   v (C, padded N)   h (n, n)
//   maps      block <-> rows; thread <-> columns j = threadIdx.x (mod blockDim.x): lanes follow memory
//   cost      reads the sums, writes y (or half of h): memory-bound
//   twin      the epilogue of gemm_s8.cu, the end of factor.cu     test  tests/test_simt_vendor.cpp     chain  C + 3
#include "cuda/vendor/finish.h"

#include "cuda/chunk.cuh"
#include "cuda/types.h"

#include <type_traits>

namespace ptq::cuda {

namespace {

template <class Out, class Sum>
__global__ void __launch_bounds__(row_block_threads)
    finish_product_kernel(Out* __restrict__ y,                        // (T, N)
                          const Sum* __restrict__ sums,               // (T, N) s32 or f32
                          const float* __restrict__ x_scales,         // (T), of s32 sums
                          const float* __restrict__ w_scales,         // (N), of s32 sums
                          const float* __restrict__ outliers,         // (T, C)
                          const float* __restrict__ outlier_weights,  // (C, outlier_stride)
                          const float* __restrict__ bias,             // (N) or null
                          std::int64_t rows,                          // T
                          std::int64_t n,                             // N
                          std::int64_t outlier_columns,               // C
                          std::int64_t outlier_stride) {
  const std::int64_t row = row_of_thread();
  if (row >= rows) return;
#pragma unroll 4
  for (std::int64_t j = threadIdx.x; j < n; j += blockDim.x) {
    float value = static_cast<float>(sums[row * n + j]);
    if constexpr (std::is_same_v<Sum, std::int32_t>) value *= x_scales[row] * w_scales[j];
    if (outlier_columns > 0) {
      float more = 0.0f;
      for (std::int64_t c = 0; c < outlier_columns; ++c)
        more = fmaf(outliers[row * outlier_columns + c], outlier_weights[c * outlier_stride + j], more);
      value += more;
    }
    if (bias != nullptr) value += bias[j];
    y[row * n + j] = round_to<Out>(value);
  }
}

__global__ void __launch_bounds__(row_block_threads)
    finish_factor_kernel(float* __restrict__ h,                   // (n, n)
                         std::int32_t* __restrict__ failed,       // (1)
                         const std::int32_t* __restrict__ infos,  // (count)
                         int count, std::int64_t n) {
  const std::int64_t row = row_of_thread();
  if (row >= n) return;
  for (std::int64_t j = threadIdx.x; j < row; j += blockDim.x) h[row * n + j] = 0.0f;
  if (row > 0 || threadIdx.x > 0) return;
  for (int i = 0; i < count; ++i) {
    if (infos[i] != 0) *failed = 1;
  }
}

template <class Sum>
void finish_product(const GemmS8& g, const Sum* sums, Stream stream) {
  const RowBlocks blocks = row_blocks(g.rows, g.n);
  visit_float(g.dtype, [&]<class Out>(Out) {
    launch("finish_product", finish_product_kernel<Out, Sum>,
           {.grid = blocks.grid,
            .block = blocks.block,
            .stream = stream,
            .bytes = static_cast<double>(sizeof(Sum) + sizeof(Out)) * static_cast<double>(g.rows * g.n)},
           static_cast<Out*>(g.y), sums, g.x_scales, g.w_scales, g.outliers, g.outlier_weights, g.bias, g.rows, g.n,
           g.outlier_columns, s8_outlier_stride(g.n));
  });
}

}  // namespace

void finish_s8(const GemmS8& g, const std::int32_t* sums, Stream stream) { finish_product(g, sums, stream); }

void finish_biased(void* y, DType dtype, const float* sums, const float* bias, std::int64_t rows, std::int64_t n,
                   Stream stream) {
  GemmS8 g{};
  g.y = y;
  g.dtype = dtype;
  g.bias = bias;
  g.rows = rows;
  g.n = n;
  finish_product(g, sums, stream);
}

void finish_factor(float* h, std::int32_t* failed, const std::int32_t* infos, int count, std::int64_t n,
                   Stream stream) {
  const RowBlocks blocks = row_blocks(n, n);
  launch("finish_factor", finish_factor_kernel,
         {.grid = blocks.grid,
          .block = blocks.block,
          .stream = stream,
          .bytes = 2.0 * static_cast<double>(n) * static_cast<double>(n)},
         h, failed, infos, count, n);
}

}  // namespace ptq::cuda

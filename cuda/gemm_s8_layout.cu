// Layouts for gemm_s8: rows of codes at a stride of 16 bytes, and chosen columns of a weight as floats
//   formula   to[t,k] = from[t,k], 0 for k >= I     to[c,j] = codes[j, columns[c]] * scales[j], 0 for j >= N
//   shapes    from (T, I)   to (T, stride)     codes (N, stride)   scales (N)   columns (C)   to (C, padded N)
//   maps      grid x <-> 256 columns of the output, grid y <-> its rows, in turns
//   cost      reads and writes everything once (a gathered code costs a sector of 32 bytes): memory-bound
//   twin      host/cpu/int8_weight.cpp     test  tests/test_ops_products.cpp     chain  1 rounding
#include "cuda/gemm_s8.h"

#include "cuda/launch.cuh"

#include <algorithm>

namespace ptq::cuda {

namespace {

constexpr int block_threads = 256;
constexpr std::int64_t most_grid_rows = 65535;  // what a grid has in y

__global__ void __launch_bounds__(block_threads) pad_codes_kernel(std::int8_t* __restrict__ to,          // (T, stride)
                                                                  const std::int8_t* __restrict__ from,  // (T, I)
                                                                  std::int64_t stride,
                                                                  std::int64_t rows,       // T
                                                                  std::int64_t columns) {  // I
  const std::int64_t k = std::int64_t{blockIdx.x} * block_threads + threadIdx.x;
  if (k >= stride) return;
  for (std::int64_t t = blockIdx.y; t < rows; t += gridDim.y)
    to[t * stride + k] = k < columns ? from[t * columns + k] : std::int8_t{0};
}

__global__ void __launch_bounds__(block_threads)
    gather_code_columns_kernel(float* __restrict__ to,                    // (C, padded)
                               const std::int8_t* __restrict__ codes,     // (N, stride)
                               const float* __restrict__ scales,          // (N)
                               const std::int32_t* __restrict__ columns,  // (C)
                               std::int64_t stride,
                               std::int64_t n,  // N
                               std::int64_t padded,
                               std::int64_t count) {  // C
  const std::int64_t j = std::int64_t{blockIdx.x} * block_threads + threadIdx.x;
  if (j >= padded) return;
  for (std::int64_t c = blockIdx.y; c < count; c += gridDim.y)
    to[c * padded + j] = j < n ? static_cast<float>(codes[j * stride + columns[c]]) * scales[j] : 0.0f;
}

LaunchSpec over(std::int64_t rows, std::int64_t columns, double bytes, Stream stream) {
  return {.grid = {static_cast<unsigned>(tiles(columns, block_threads)),
                   static_cast<unsigned>(std::min(rows, most_grid_rows))},
          .block = block_threads,
          .stream = stream,
          .bytes = bytes};
}

}  // namespace

void pad_codes(std::int8_t* to, std::int64_t stride, const std::int8_t* from, std::int64_t rows, std::int64_t columns,
               Stream stream) {
  const auto bytes = static_cast<double>(rows) * static_cast<double>(columns + stride);
  launch("pad_codes", pad_codes_kernel, over(rows, stride, bytes, stream), to, from, stride, rows, columns);
}

void gather_code_columns(float* to, const std::int8_t* codes, std::int64_t stride, const float* scales,
                         const std::int32_t* columns, std::int64_t n, std::int64_t count, Stream stream) {
  const std::int64_t padded = s8_outlier_stride(n);
  const auto bytes = 36.0 * static_cast<double>(count) * static_cast<double>(n);
  launch("gather_code_columns", gather_code_columns_kernel, over(count, padded, bytes, stream), to, codes, scales,
         columns, stride, n, padded, count);
}

}  // namespace ptq::cuda

// What all GEMM rungs have in common: the operands, the edge of y, and the launch.
#pragma once

#include "cuda/gemm.h"
#include "cuda/launch.cuh"
#include "cuda/ptx.cuh"
#include "cuda/types.h"

namespace ptq::cuda {

// y = x W^T + bias. Rows of x and w begin at multiples of 16 bytes.
template <class T>
struct GemmStep {
  T* __restrict__ y;               // [T, N]
  const T* __restrict__ x;         // [T, ldx], I columns used
  const T* __restrict__ w;         // [N, ldw], zeros in the columns from I to ldw, a multiple of 32
  const float* __restrict__ bias;  // [N] or null
  std::int64_t ldx, ldw;
  std::int64_t rows, columns;  // T, N
  int depth;                   // I

  // y[row, column] = sum + bias, rounded once; nothing beyond the edges of y.
  __device__ void store(std::int64_t row, std::int64_t column, float sum) const {
    if (row >= rows || column >= columns) return;
    if (bias != nullptr) sum += bias[column];
    y[row * columns + column] = round_to<T>(sum);
  }
};

// kernel with one block per tile of y: blockIdx.x counts tiles of rows, blockIdx.y (up to 65535) tiles of columns.
template <class T>
void launch_gemm_step(const char* name, void (*kernel)(GemmStep<T>), std::int64_t tile_rows, std::int64_t tile_columns,
                      unsigned threads, std::size_t smem, void* y, const GemmShape& g, const float* bias,
                      Stream stream) {
  const auto rows = static_cast<double>(g.rows), columns = static_cast<double>(g.columns);
  const auto depth = static_cast<double>(g.depth);
  launch(name, kernel,
         {.grid = dim3(static_cast<unsigned>(tiles(g.rows, tile_rows)),
                       static_cast<unsigned>(tiles(g.columns, tile_columns))),
          .block = threads,
          .smem = smem,
          .stream = stream,
          .flops = 2.0 * rows * columns * depth,
          .bytes = sizeof(T) * (depth * (rows + columns) + rows * columns)},
         GemmStep<T>{static_cast<T*>(y), static_cast<const T*>(g.x), static_cast<const T*>(g.w), bias, g.ldx, g.ldw,
                     g.rows, g.columns, static_cast<int>(g.depth)});
}

}  // namespace ptq::cuda

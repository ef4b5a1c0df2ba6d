// Rows of a table
//   formula   embed: y[t] = table[ids[t]] * scale     add_rows: x[t] += table[index[t]]     gather_rows: y[r] =
//   x[rows[r]] shapes    y, x (T, D)   ids, index, rows (T)   table (V, D) maps      threadIdx.y <-> row of the block,
//   threadIdx.x <-> chunks of 16 bytes of the row cost      at most T D flops; reads and writes each row once:
//   memory-bound twin      host/cpu/layers.cpp     test  tests/test_ops_layers.cpp     chain  1
#include "cuda/chunk.cuh"
#include "cuda/launch.cuh"
#include "cuda/layers.h"
#include "cuda/types.h"

namespace ptq::cuda {

template <class T, bool vector>
__global__ void __launch_bounds__(row_block_threads) embed_kernel(T* __restrict__ y,                     // (T, D)
                                                                  const std::int32_t* __restrict__ ids,  // (T)
                                                                  const T* __restrict__ table,           // (V, D)
                                                                  std::int64_t rows,                     // T
                                                                  std::int64_t width,                    // D
                                                                  float scale) {
  const std::int64_t row = row_of_thread();
  if (row >= rows) return;
  const T* from = table + ids[row] * width;
  T* to = y + row * width;
  const auto step = static_cast<std::int64_t>(blockDim.x) * chunk<T>;
#pragma unroll 4
  for (std::int64_t i = static_cast<std::int64_t>(threadIdx.x) * chunk<T>; i < width; i += step) {
    float x[chunk<T>];
    load<vector>(x, from + i, width - i);
#pragma unroll
    for (float& v : x) v *= scale;
    store<vector>(to + i, x, width - i);
  }
}

template <class T, bool vector>
__global__ void __launch_bounds__(row_block_threads) add_rows_kernel(T* __restrict__ x,                       // (T, D)
                                                                     const std::int32_t* __restrict__ index,  // (T)
                                                                     const T* __restrict__ table,             // (P, D)
                                                                     std::int64_t rows,                       // T
                                                                     std::int64_t width) {                    // D
  const std::int64_t row = row_of_thread();
  if (row >= rows) return;
  const T* from = table + index[row] * width;
  T* to = x + row * width;
  const auto step = static_cast<std::int64_t>(blockDim.x) * chunk<T>;
#pragma unroll 4
  for (std::int64_t i = static_cast<std::int64_t>(threadIdx.x) * chunk<T>; i < width; i += step) {
    float sum[chunk<T>], more[chunk<T>];
    load<vector>(sum, to + i, width - i);
    load<vector>(more, from + i, width - i);
#pragma unroll
    for (int e = 0; e < chunk<T>; ++e) sum[e] += more[e];
    store<vector>(to + i, sum, width - i);
  }
}

// Unit: what is moved at once, 16 bytes or less where rows are not aligned.
template <class Unit>
__global__ void __launch_bounds__(row_block_threads) gather_rows_kernel(Unit* __restrict__ y,        // (R, units)
                                                                        const Unit* __restrict__ x,  // (T, units)
                                                                        const std::int32_t* __restrict__ rows,  // (R)
                                                                        std::int64_t count,                     // R
                                                                        std::int64_t units) {  // of a row
  const std::int64_t row = row_of_thread();
  if (row >= count) return;
  const Unit* from = x + rows[row] * units;
  Unit* to = y + row * units;
#pragma unroll 4
  for (std::int64_t i = threadIdx.x; i < units; i += blockDim.x) to[i] = from[i];
}

void embed(void* y, const std::int32_t* ids, const void* table, DType dtype, std::int64_t rows, std::int64_t width,
           float scale, Stream stream) {
  visit_float(dtype, [&]<class T>(T) {
    const bool vector = fits_vectors(width * static_cast<int>(sizeof(T)), {y, table});
    const auto [grid, block] = row_blocks(rows, tiles(width, chunk<T>));
    const double n = static_cast<double>(rows) * static_cast<double>(width);
    launch("embed", vector ? embed_kernel<T, true> : embed_kernel<T, false>,
           {.grid = grid, .block = block, .stream = stream, .flops = n, .bytes = 2.0 * sizeof(T) * n},
           static_cast<T*>(y), ids, static_cast<const T*>(table), rows, width, scale);
  });
}

void add_rows(void* x, const std::int32_t* index, const void* table, DType dtype, std::int64_t rows, std::int64_t width,
              Stream stream) {
  visit_float(dtype, [&]<class T>(T) {
    const bool vector = fits_vectors(width * static_cast<int>(sizeof(T)), {x, table});
    const auto [grid, block] = row_blocks(rows, tiles(width, chunk<T>));
    const double n = static_cast<double>(rows) * static_cast<double>(width);
    launch("add_rows", vector ? add_rows_kernel<T, true> : add_rows_kernel<T, false>,
           {.grid = grid, .block = block, .stream = stream, .flops = n, .bytes = 3.0 * sizeof(T) * n},
           static_cast<T*>(x), index, static_cast<const T*>(table), rows, width);
  });
}

void gather_rows(void* y, const void* x, const std::int32_t* rows, std::int64_t count, std::int64_t row_bytes,
                 Stream stream) {
  const auto gather = [&]<class Unit>(Unit) {
    const std::int64_t units = row_bytes / static_cast<int>(sizeof(Unit));
    const auto [grid, block] = row_blocks(count, units);
    launch("gather_rows", gather_rows_kernel<Unit>,
           {.grid = grid,
            .block = block,
            .stream = stream,
            .bytes = 2.0 * static_cast<double>(count) * static_cast<double>(row_bytes)},
           static_cast<Unit*>(y), static_cast<const Unit*>(x), rows, count, units);
  };
  if (fits_vectors(row_bytes, {y, x})) return gather(uint4{});
  // Rows begin at multiples of the element size, which is the largest power of two that divides all of these.
  const auto all = static_cast<std::uintptr_t>(row_bytes) | reinterpret_cast<std::uintptr_t>(y) |
                   reinterpret_cast<std::uintptr_t>(x);
  if (all % 4 == 0) return gather(std::uint32_t{});
  if (all % 2 == 0) return gather(std::uint16_t{});
  gather(std::uint8_t{});
}

}  // namespace ptq::cuda

// Rows of a table
//   formula   embed: y[t] = table[index[t]] * scale     add_rows: y[t] += table[index[t]]
//             gather_rows: y[t] = table[index[t]], any type
//   shapes    y (T, D)   index (T)   table (V, D)
//   maps      threadIdx.y <-> row of the block, threadIdx.x <-> chunks of 16 bytes of the row
//   cost      at most T D flops; reads and writes each row once: memory-bound
//   twin      host/cpu/layers.cpp     test  tests/test_ops_layers.cpp     chain  1
#include "cuda/chunk.cuh"
#include "cuda/launch.cuh"
#include "cuda/layers.h"
#include "cuda/types.h"

namespace ptq::cuda {

// The row of the table for row t of y; -1, and the fault is told of, if the table has no such row.
__device__ inline std::int64_t table_row(const RowIndex& index, std::int64_t t) {
  const std::int32_t row = index.rows[t];
  if (0 <= row && row < index.limit) return row;
  *index.fault = index.op;
  return -1;
}

template <class T, bool vector, bool accumulate>
__global__ void __launch_bounds__(row_block_threads) table_rows_kernel(T* __restrict__ y,            // (T, D)
                                                                       RowIndex index,               // (T)
                                                                       const T* __restrict__ table,  // (V, D)
                                                                       std::int64_t rows,            // T
                                                                       std::int64_t width,           // D
                                                                       float scale) {  // unless rows are added
  const std::int64_t row = row_of_thread();
  if (row >= rows) return;
  const std::int64_t at = table_row(index, row);
  if (at < 0) return;
  const T* from = table + at * width;
  T* to = y + row * width;
  const auto step = static_cast<std::int64_t>(blockDim.x) * chunk<T>;
#pragma unroll 4
  for (std::int64_t i = static_cast<std::int64_t>(threadIdx.x) * chunk<T>; i < width; i += step) {
    float x[chunk<T>], sum[chunk<T>];
    load<vector>(x, from + i, width - i);
    if constexpr (accumulate) load<vector>(sum, to + i, width - i);
#pragma unroll
    for (int e = 0; e < chunk<T>; ++e) x[e] = accumulate ? sum[e] + x[e] : x[e] * scale;
    store<vector>(to + i, x, width - i);
  }
}

// Unit: what is moved at once, 16 bytes or less where rows are not aligned.
template <class Unit>
__global__ void __launch_bounds__(row_block_threads) gather_rows_kernel(Unit* __restrict__ y,        // (T, units)
                                                                        RowIndex index,              // (T)
                                                                        const Unit* __restrict__ x,  // (V, units)
                                                                        std::int64_t count,          // T
                                                                        std::int64_t units) {        // of a row
  const std::int64_t row = row_of_thread();
  if (row >= count) return;
  const std::int64_t at = table_row(index, row);
  if (at < 0) return;
  const Unit* from = x + at * units;
  Unit* to = y + row * units;
#pragma unroll 4
  for (std::int64_t i = threadIdx.x; i < units; i += blockDim.x) to[i] = from[i];
}

namespace {

template <bool accumulate>
void table_rows(const char* name, void* y, const RowIndex& index, const void* table, DType dtype, std::int64_t rows,
                std::int64_t width, float scale, Stream stream) {
  visit_float(dtype, [&]<class T>(T) {
    const bool vector = fits_vectors(width * static_cast<int>(sizeof(T)), {y, table});
    const auto [grid, block] = row_blocks(rows, tiles(width, chunk<T>));
    const double n = static_cast<double>(rows) * static_cast<double>(width);
    launch(name, vector ? table_rows_kernel<T, true, accumulate> : table_rows_kernel<T, false, accumulate>,
           {.grid = grid,
            .block = block,
            .stream = stream,
            .flops = n,
            .bytes = (accumulate ? 3.0 : 2.0) * sizeof(T) * n},
           static_cast<T*>(y), index, static_cast<const T*>(table), rows, width, scale);
  });
}

}  // namespace

void embed(void* y, const RowIndex& index, const void* table, DType dtype, std::int64_t rows, std::int64_t width,
           float scale, Stream stream) {
  table_rows<false>("embed", y, index, table, dtype, rows, width, scale, stream);
}

void add_rows(void* y, const RowIndex& index, const void* table, DType dtype, std::int64_t rows, std::int64_t width,
              Stream stream) {
  table_rows<true>("add_rows", y, index, table, dtype, rows, width, 1.0f, stream);
}

void gather_rows(void* y, const RowIndex& index, const void* x, std::int64_t count, std::int64_t row_bytes,
                 Stream stream) {
  const auto gather = [&]<class Unit>(Unit) {
    const std::int64_t units = row_bytes / static_cast<int>(sizeof(Unit));
    const auto [grid, block] = row_blocks(count, units);
    launch("gather_rows", gather_rows_kernel<Unit>,
           {.grid = grid,
            .block = block,
            .stream = stream,
            .bytes = 2.0 * static_cast<double>(count) * static_cast<double>(row_bytes)},
           static_cast<Unit*>(y), index, static_cast<const Unit*>(x), count, units);
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

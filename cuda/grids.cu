// Grids of groups, and rounding to given grids
//   formula   (scale, zero)[n,g] = host/grid.h of the range of w[n, g group ..]
//             code = clamp(rint(w / scale) + zero, 0, levels),  w = scale (code - zero),  scale and zero of g_idx[i]
//   shapes    w (N, I) f32   codes (N, I) u8   scales, zeros (N, G) f32   g_idx (I) i32
//   maps      group_grids: warp <-> group of a row; round_to_grids: thread <-> column of 16 rows
//   cost      read w once (the search reads it 80 times, from the first-level cache, with a power each); rounding reads
//             and writes w and writes codes: memory-bound
//   twin      host/cpu/gptq.cpp     test  tests/test_ops_quant.cpp     chain  1
#include "cuda/grids.h"

#include "cuda/row_grid.cuh"

namespace ptq::cuda {

namespace {

constexpr int threads = 256;  // 8 warps: 8 blocks fill an SM
constexpr int warps = threads / warp_lanes;
constexpr int rows_per_thread = 16;  // loads in flight, and one look at g_idx for all of them

}  // namespace

__global__ void __launch_bounds__(threads)
    group_grids_kernel(float* __restrict__ scales,   // (N, G)
                       float* __restrict__ zeros,    // (N, G)
                       const float* __restrict__ w,  // (N, I)
                       std::int64_t rows,            // N
                       int columns,                  // I
                       int groups,                   // G
                       int group,                    // columns of a group; the last one may have fewer
                       GridSpec grid) {
  const std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * warps + warp_index();
  if (at >= rows * groups) return;
  const std::int64_t row = at / groups;
  const int first = static_cast<int>(at % groups) * group;
  const float* from = w + row * columns + first;
  const GridPoint point = warp_grid([=](int i) { return from[i]; }, std::min(group, columns - first), grid);
  if (lane_index() == 0) {
    scales[at] = point.scale;
    zeros[at] = point.zero;
  }
}

__global__ void __launch_bounds__(threads) round_to_grids_kernel(float* __restrict__ w,                   // (N, I)
                                                                 std::uint8_t* __restrict__ codes,        // (N, I)
                                                                 const float* __restrict__ scales,        // (N, G)
                                                                 const float* __restrict__ zeros,         // (N, G)
                                                                 const std::int32_t* __restrict__ g_idx,  // (I)
                                                                 std::int64_t rows,                       // N
                                                                 int columns,                             // I
                                                                 int groups,                              // G
                                                                 float levels) {
  const int column = static_cast<int>(blockIdx.y) * threads + static_cast<int>(threadIdx.x);
  if (column >= columns) return;
  const int group = g_idx[column];
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * rows_per_thread;
#pragma unroll 4
  for (std::int64_t row = first; row < std::min(rows, first + rows_per_thread); ++row) {
    const GridPoint point{scales[row * groups + group], zeros[row * groups + group]};
    const std::int64_t at = row * columns + column;
    const float code = code_of(w[at], point, levels);
    codes[at] = stored_code(code);
    w[at] = value_of(code, point);
  }
}

void group_grids(float* scales, float* zeros, const float* w, std::int64_t rows, std::int64_t columns,
                 std::int64_t group, const GridSpec& grid, Stream stream) {
  const std::int64_t groups = tiles(columns, group);
  launch(
      "group_grids", group_grids_kernel,
      {.grid = static_cast<unsigned>(tiles(rows * groups, warps)),
       .block = threads,
       .stream = stream,
       .bytes = static_cast<double>(rows) * (4.0 * static_cast<double>(columns) + 8.0 * static_cast<double>(groups))},
      scales, zeros, w, rows, static_cast<int>(columns), static_cast<int>(groups),
      static_cast<int>(std::min(group, columns)), grid);
}

void round_to_grids(float* w, std::uint8_t* codes, const float* scales, const float* zeros, const std::int32_t* g_idx,
                    std::int64_t rows, std::int64_t columns, std::int64_t groups, const GridSpec& grid, Stream stream) {
  launch(
      "round_to_grids", round_to_grids_kernel,
      {.grid = {static_cast<unsigned>(tiles(rows, rows_per_thread)), static_cast<unsigned>(tiles(columns, threads))},
       .block = threads,
       .stream = stream,
       .bytes = static_cast<double>(rows) * (9.0 * static_cast<double>(columns) + 8.0 * static_cast<double>(groups))},
      w, codes, scales, zeros, g_idx, rows, static_cast<int>(columns), static_cast<int>(groups),
      static_cast<float>(grid.levels()));
}

}  // namespace ptq::cuda

// AWQ's scaled rounding (spec B.3)
//   formula   out[n, i] = Q(w[n, i] t[i]) / t[i], Q the grid of the row's group after scaling
//   shapes    out, W (N, I) f32   t (I) f32
//   maps      warp <-> group of a row
//   cost      two divisions an element; reads W once (the second look hits the first-level cache), writes out:
//             memory-bound
//   twin      host/cpu/awq.cpp     test  tests/test_ops_awq.cpp     chain  1
#include "cuda/awq.h"

#include "cuda/row_grid.cuh"

namespace ptq::cuda {

namespace {

constexpr int threads = 256;  // 8 warps: 8 blocks fill an SM
constexpr int warps = threads / warp_lanes;

}  // namespace

__global__ void __launch_bounds__(threads)
    round_scaled_kernel(float* out,                   // (N, I), may be w
                        const float* w,               // (N, I)
                        const float* __restrict__ t,  // (I)
                        std::int64_t rows,            // N
                        int columns,                  // I
                        int group,                    // columns of a group; the last one may have fewer
                        GridSpec grid) {
  const int groups = static_cast<int>(tiles(columns, group));
  const std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * warps + warp_index();
  if (at >= rows * groups) return;
  const int first = static_cast<int>(at % groups) * group, n = std::min(group, columns - first);
  const std::int64_t offset = at / groups * columns + first;
  const auto scaled = [=](int i) { return w[offset + i] * t[first + i]; };
  const GridPoint point = warp_grid(scaled, n, grid);
  const auto levels = static_cast<float>(grid.levels());
  for (int i = lane_index(); i < n; i += warp_lanes) {
    out[offset + i] = value_of(code_of(scaled(i), point, levels), point) / t[first + i];
  }
}

void round_scaled(float* out, const float* w, const float* t, std::int64_t rows, std::int64_t columns,
                  std::int64_t group, const GridSpec& grid, Stream stream) {
  launch("round_scaled", round_scaled_kernel,
         {.grid = static_cast<unsigned>(tiles(rows * tiles(columns, group), warps)),
          .block = threads,
          .stream = stream,
          .bytes = 8.0 * static_cast<double>(rows) * static_cast<double>(columns)},
         out, w, t, rows, static_cast<int>(columns), static_cast<int>(std::min(group, columns)), grid);
}

}  // namespace ptq::cuda

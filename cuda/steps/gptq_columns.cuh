// What the rungs of the GPTQ ladder have in common: rounding a weight, and (from step 2 on) the columns of a block
// in shared memory. A tile of 32 rows belongs to a block of 256 threads.
#pragma once

#include "cuda/gptq_grids.cuh"

#include <algorithm>

namespace ptq::cuda::gptq_steps {

inline constexpr int threads = 256;
inline constexpr int lanes = 8;               // threads of a row while its columns are rounded
inline constexpr int rows = threads / lanes;  // 32: 4096 rows are 128 blocks, about one an SM

struct Rounded {
  float q, e;
  std::uint8_t code;
  float loss;
};

// w to the nearest point of its grid; d = U_cc of its column.
__device__ inline Rounded round_weight(float w, GridPoint grid, float d, const Sweep& s) {
  const float code = code_of(w, grid, static_cast<float>(s.grid.levels()));
  const float q = value_of(code, grid), delta = w - q;
  return {q, delta / d, stored_code(code), delta * delta / (d * d) / 2.0f};
}

__device__ inline GridPoint grid_of_column(const Sweep& s, std::int64_t row, int column) {
  const std::int64_t at = row * s.groups + (s.g_idx != nullptr ? s.g_idx[column] : column / s.group);
  return {s.scales[at], s.zeros[at]};
}

inline constexpr int tile = 128;        // columns in shared memory: the usual block
inline constexpr int pitch = tile + 8;  // the 4 rows of a warp lie in different banks
inline constexpr int triangle_floats = tile * (tile + 1) / 2;
inline constexpr std::size_t columns_bytes = (rows * pitch + triangle_floats) * sizeof(float);  // 50 KiB

// Where U_ik, i <= k, of the tile is.
__device__ inline int triangle(int i, int k) { return i * tile - i * (i + 1) / 2 + k; }

// Rounds the columns [begin, end) of rows first .. first + 31 one after the other; e to the scratch memory. W must be
// complete and columns_bytes of shared memory free; they are again at the end. Grids are read behind the first barrier.
__device__ inline void round_columns(const Sweep& s, int first, int begin, int end) {
  auto* const w_tile = dynamic_smem<float>();   // [32][136]
  float* const u_tile = w_tile + rows * pitch;  // the triangle
  const int lane = static_cast<int>(threadIdx.x) % lanes, r = static_cast<int>(threadIdx.x) / lanes;
  const bool exists = first + r < s.rows;
  const std::int64_t row = min(first + r, s.rows - 1);  // a row that does not exist is as the last one
  float* const w = w_tile + r * pitch;
  float* const row_w = s.w + row * s.columns;
  float* const errors = s.scratch + row * s.block;
  double loss = 0.0;
  for (int from = begin; from < end; from += tile) {
    const int width = min(tile, end - from);
    for (int k = lane; k < width; k += lanes) w[k] = row_w[from + k];
    for (int i = warp_index(); i < width; i += threads / warp_lanes) {
      const float* u = s.u + std::int64_t{from + i} * s.columns + from;
      for (int k = i + lane_index(); k < width; k += warp_lanes) u_tile[triangle(i, k)] = u[k];
    }
    for (int i = begin; i < from; ++i) {  // of a block wider than the tile: what its columns before do to these
      const float* u = s.u + std::int64_t{i} * s.columns + from;
      for (int k = lane; k < width; k += lanes) w[k] -= errors[i - begin] * u[k];
    }
    __syncthreads();  // the tile and the triangle are complete
    for (int c = 0; c < width; ++c) {
      const int column = from + c;
      const Rounded x = round_weight(w[c], grid_of_column(s, row, column), u_tile[triangle(c, c)], s);
      for (int k = c + 1 + lane; k < width; k += lanes) w[k] -= x.e * u_tile[triangle(c, k)];
      if (lane == 0 && exists) {
        row_w[column] = x.q;
        s.codes[row * s.columns + column] = x.code;
        errors[column - begin] = x.e;
        loss += static_cast<double>(x.loss);
      }
      __syncwarp();  // the next column of the warp's rows is complete
    }
    __syncthreads();  // the errors are complete, and the shared memory is free
  }
  if (lane == 0 && exists) s.row_error[row] = begin == 0 ? loss : s.row_error[row] + loss;
}

}  // namespace ptq::cuda::gptq_steps

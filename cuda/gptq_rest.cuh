// The effect of a block of columns on those behind it, a part of the GPTQ sweep's kernel (gptq.cu):
//   W[:, k] -= sum_{i in [begin, end)} e_i U_ik,   k >= end
// as a product (32, B) x (B, 512) a panel, warp <-> 64 columns, thread <-> 8 x 8 elements; U arrives in parts of 8 rows
// while the ones before are multiplied.
#pragma once

#include "cuda/block.cuh"
#include "cuda/gptq.h"
#include "cuda/outer_product.cuh"
#include "cuda/ptx.cuh"

#include <algorithm>

namespace ptq::cuda {

// A tile of rows belongs to a block of threads; a row has row_lanes of them while its columns are rounded.
inline constexpr int threads = 256;
inline constexpr int warps = threads / warp_lanes;
inline constexpr int row_lanes = 8;
inline constexpr int tile_rows = threads / row_lanes;  // 32: 4096 rows fill an H100

inline constexpr int panel = 512;  // columns at a time: every warp has 64 of them, every thread 8 of those of 8 rows
inline constexpr int depth = 8;    // rows of U that arrive together
inline constexpr int gap = 32;     // between the two runs of four columns of a thread
inline constexpr int stages = 3;   // such parts of U, one in use
inline constexpr int panel_floats = stages * depth * panel;
static_assert(panel == warps * 64 && tile_rows == 32, "a warp's 8 x 4 lanes cover 64 columns of 32 rows");
static_assert(depth == row_lanes, "columns beyond the block's end are filled up with zeros to a multiple of both");

// A part of U, rows [i, i + 8) of which those before `end` exist, columns [c, c + 512), to shared memory.
__device__ inline void copy_part(float* to, const Sweep& s, int i, int end, int c) {
  for (int q = static_cast<int>(threadIdx.x); q < depth * panel / 4; q += threads) {
    const int row = i + q / (panel / 4), column = c + q % (panel / 4) * 4;
    const int exist = row < end ? std::clamp(s.columns - column, 0, 4) : 0;
    const float* from = exist > 0 ? s.u + static_cast<std::int64_t>(row) * s.columns + column : s.u;
    if (s.aligned) {
      cp_async_16(to + q * 4, from, exist * 4);
    } else {
      for (int e = 0; e < 4; ++e) cp_async_4(to + q * 4 + e, e < exist ? from + e : s.u, e < exist ? 4 : 0);
    }
  }
}

// W -= sum for the thread's rows from `row` and columns from c, of which those in [end, I) count.
__device__ inline void subtract(const Sweep& s, const float (&sum)[8][8], int row, int end, int c) {
  float* to = s.w + static_cast<std::int64_t>(row) * s.columns + c;
  const bool vectors = s.aligned && row + 8 <= s.rows && end <= c && c + gap + 4 <= s.columns;
#pragma unroll
  for (int i = 0; i < 8; i += 2, to += 2 * static_cast<std::int64_t>(s.columns)) {
    float* second = to + s.columns;
    if (vectors) {
      float w[2][8];  // 4 loads in flight
      load4(w[0], to);
      load4(w[0] + 4, to + gap);
      load4(w[1], second);
      load4(w[1] + 4, second + gap);
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        w[0][j] -= sum[i][j];
        w[1][j] -= sum[i + 1][j];
      }
      store4(to, w[0]);
      store4(to + gap, w[0] + 4);
      store4(second, w[1]);
      store4(second + gap, w[1] + 4);
    } else {
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const int beside = outer_column<gap>(j);
        if (c + beside < end || c + beside >= s.columns) continue;
        if (row + i < s.rows) to[beside] -= sum[i][j];
        if (row + i + 1 < s.rows) second[beside] -= sum[i + 1][j];
      }
    }
  }
}

// The effect of the errors of the block [begin, end) on all columns behind it.
__device__ inline void update_rest(const Sweep& s, const float* errors, float* panels, int first, int begin, int end) {
  const int lane = lane_index(), row = lane / 8 * 8, column = warp_index() * 64 + lane % 8 * 4;
  int next = 0, next_c = end / 4 * 4, next_i = begin;  // the part to copy; panels begin at aligned addresses
  const auto copy = [&] {
    if (next_c < s.columns) copy_part(panels + next * (depth * panel), s, next_i, end, next_c);
    cp_async_commit();
    next = next + 1 < stages ? next + 1 : 0;
    next_i += depth;
    if (next_i < end) return;
    next_i = begin;
    next_c += panel;
  };
  for (int n = 0; n < stages - 1; ++n) copy();
  int stage = 0;
  for (int c = end / 4 * 4; c < s.columns; c += panel) {
    float sum[8][8] = {};
    for (int i = begin; i < end; i += depth) {
      cp_async_wait<stages - 2>();
      __syncthreads();  // the part is complete, and nobody reads the one before any more
      copy();
      if (c + warp_index() * 64 < s.columns) {
        add_outer_products<depth, tile_rows, panel, gap>(sum, errors + (i - begin) * tile_rows + row,
                                                         panels + stage * (depth * panel) + column);
      }
      stage = stage + 1 < stages ? stage + 1 : 0;
    }
    subtract(s, sum, first + row, end, c + column);
  }
}

}  // namespace ptq::cuda

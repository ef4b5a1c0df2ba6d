// A warp's 16 rows of attention on tensor cores, for the steps attention/3-tensor and attention/4-pipelined, which
// differ in how tiles reach shared memory. A tile has 64 rows of queries, or 32 of keys or values, in halves.
//
// Accuracy: a weight rounded to one half is wrong by up to 2^-8 (bf16) or 2^-11 (f16) of itself, as much as the result's
// own rounding. It enters as a sum of halves: three bf16 hold all 24 bits of it; two f16 hold 22 bits of it times 2^15,
// which keeps the second half of small weights out of the subnormals. W V of a tile is summed from zero and added to o
// by fmaf, so that tensor cores, whose rounding is not documented, only add short chains.
#pragma once

#include "cuda/attention.cuh"
#include "cuda/block.cuh"

namespace ptq::cuda {

template <class T, int P>  // P >= C
struct AttentionWarp {
  static constexpr int keys = 32, row_warps = attention_rows / 16;
  // 16 x 256 elements of o would be 128 registers of a lane: then two warps compute the scores of the same rows, and
  // each has half of the columns of o.
  static constexpr int halves = P > 128 ? 2 : 1, columns = P / halves, threads = row_warps * halves * warp_lanes;
  static constexpr int blocks = P > 128 ? 1 : P > 64 ? 0 : 4;  // on an SM, for ptxas; 0: its choice. None spills.
  static constexpr int stride = P + 8;  // of a tile: 16 bytes more, so that eight rows of an ldmatrix meet all 32 banks
  static constexpr int parts = std::is_same_v<T, bf16> ? 3 : 2;
  static constexpr float weight_scale = std::is_same_v<T, bf16> ? 1.0f : 0x1p15f;
  using Products = float[keys / 8][4];  // of 16 rows and `keys` keys, in the lane map of mma_c_row and mma_c_col

  const AttentionForm& form;
  SoftmaxRow rows[2];            // a lane has elements of two rows
  float o[columns / 8][4] = {};  // [16][columns], not yet divided by the sums

  __device__ static int first_row() { return warp_index() % row_warps * 16; }  // of the warp, in the block
  __device__ static int first_column() { return warp_index() / row_warps * columns; }
  __device__ static int row(int i) { return first_row() + mma_c_row(lane_index(), 2 * i); }

  __device__ explicit AttentionWarp(const AttentionPlace& place)
      : form(place.form), rows{{place, row(0)}, {place, row(1)}} {}

  // Where a lane's row for ldmatrix_x4 begins in 16 x 16 elements: matrices 0 and 1 are the first 8 columns.
  __device__ static int matrix_row() { return lane_index() % 16 * stride + lane_index() / 16 * 8; }

  // Takes in the keys first .. first + 31. q [64][stride], k, v [32][stride]
  __device__ void add_tile(const T* q, const T* k, const T* v, int first) {
    Products s = {};
    add_scores(s, q + first_row() * stride + matrix_row(), k + matrix_row());
    float rescale[2];
    soften(s, rescale, first);
    add_values(rescale, s, v + first_column() + matrix_row());
  }

  // s += q k^T. A row of k is a column of k^T: the right operand of mma is loaded as it lies.
  __device__ static void add_scores(Products& s, const T* q, const T* k) {
#pragma unroll
    for (int d = 0; d < P; d += 16) {
      std::uint32_t a[4], b[4];
      ldmatrix_x4(a, q + d);
#pragma unroll
      for (int n = 0; n < keys; n += 16) {
        ldmatrix_x4(b, k + n * stride + d);
        mma_16816<T>(s[n / 8], a, {b[0], b[2]});
        mma_16816<T>(s[n / 8 + 1], a, {b[1], b[3]});
      }
    }
  }

  // Products to weights in place; rescale[i]: what the lane's row i of o is to be multiplied by.
  __device__ void soften(Products& s, float (&rescale)[2], int first) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float best = -INFINITY;
#pragma unroll
      for (int j = 0; j < keys / 4; ++j) {
        const int e = 2 * i + j % 2;
        float& x = s[j / 2][e];
        const bool sees = rows[i].sees(first + j / 2 * 8 + mma_c_col(lane_index(), e), form.window);
        x = sees ? attention_score(x, form) : -INFINITY;
        best = fmaxf(best, x);
      }
      best = fmaxf(best, __shfl_xor_sync(all_lanes, best, 1));  // a row lies in four lanes
      best = fmaxf(best, __shfl_xor_sync(all_lanes, best, 2));
      rescale[i] = rows[i].raise(best);
#pragma unroll
      for (int j = 0; j < keys / 4; ++j) {
        float& x = s[j / 2][2 * i + j % 2];
        x = rows[i].weight(x) * weight_scale;
        rows[i].sum += x;
      }
    }
  }

  // o = rescale o + w v
  __device__ void add_values(const float (&rescale)[2], const Products& w, const T* v) {
    std::uint32_t a[keys / 16][parts][4];  // pairs of accumulators lie as a left operand wants them
#pragma unroll
    for (int r = 0; r < keys / 4; ++r) {
      float2 left = make_float2(w[r / 2][r % 2 * 2], w[r / 2][r % 2 * 2 + 1]);
#pragma unroll
      for (int i = 0; i < parts; ++i) {  // each part takes what the ones before have left
        const std::uint32_t pair = pack_pair<T>(left.x, left.y);
        const float2 part = unpack_pair<T>(pair);
        a[r / 4][i][r % 4] = pair;
        left = make_float2(left.x - part.x, left.y - part.y);
      }
    }
#pragma unroll
    for (int d = 0; d < columns; d += 16) {
      float sum[2][4] = {};
#pragma unroll
      for (int j = 0; j < keys / 16; ++j) {
        std::uint32_t b[4];
        ldmatrix_x4_transposed(b, v + 16 * j * stride + d);
#pragma unroll
        for (int i = parts - 1; i >= 0; --i) {  // the smallest first
          mma_16816<T>(sum[0], a[j][i], {b[0], b[1]});
          mma_16816<T>(sum[1], a[j][i], {b[2], b[3]});
        }
      }
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        float& to = o[d / 8 + e / 4][e % 4];
        to = fmaf(rescale[e % 4 / 2], to, sum[e / 4][e % 4]);
      }
    }
  }

  // o / sum to global memory.
  __device__ void write(T* to, const AttentionPlace& place) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float sum = rows[i].sum;
      sum += __shfl_xor_sync(all_lanes, sum, 1);
      sum += __shfl_xor_sync(all_lanes, sum, 2);
      if (row(i) >= place.tile.count) continue;
      const float inverse = 1.0f / sum;
      T* out = to + place.query(row(i));
#pragma unroll
      for (int j = 0; j < columns / 4; ++j) {
        const int e = 2 * i + j % 2, d = first_column() + j / 2 * 8 + mma_c_col(lane_index(), e);
        if (d < form.head_dim) out[d] = round_to<T>(normalized(o[j / 2][e], inverse));
      }
    }
  }
};

}  // namespace ptq::cuda

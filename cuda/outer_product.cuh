// Products of small matrices on fp32 units: a thread has 8 x 8 sums and reads 8 values of either operand for 64 fused
// multiply-adds.
#pragma once

#include "cuda/launch.cuh"

namespace ptq::cuda {

// Four floats at an address that is a multiple of 16.
__device__ inline void load4(float* to, const float* from) {
  const float4 x = *reinterpret_cast<const float4*>(from);
  to[0] = x.x;
  to[1] = x.y;
  to[2] = x.z;
  to[3] = x.w;
}
__device__ inline void store4(float* to, const float* from) {
  *reinterpret_cast<float4*>(to) = make_float4(from[0], from[1], from[2], from[3]);
}

// sum[i][j] += a[k][i] b[k][j] for k = 0, 1, .. depth - 1. Rows of a and b are a_pitch and b_pitch floats apart; the
// thread's columns of b are two runs of four, the second b_gap floats behind the first, so that the lanes of a warp can
// read neighbouring runs.
template <int depth, int a_pitch, int b_pitch, int b_gap>
__device__ inline void add_outer_products(float (&sum)[8][8], const float* a, const float* b) {
#pragma unroll 2  // as far ahead as 128 registers let the next loads run
  for (int k = 0; k < depth; ++k) {
    float x[8], y[8];
    load4(x, a + k * a_pitch);
    load4(x + 4, a + k * a_pitch + 4);
    load4(y, b + k * b_pitch);
    load4(y + 4, b + k * b_pitch + b_gap);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
#pragma unroll
      for (int j = 0; j < 8; ++j) sum[i][j] = fmaf(x[i], y[j], sum[i][j]);
    }
  }
}

// Where column j of the thread's 8 is, relative to its first.
template <int b_gap>
__device__ constexpr int outer_column(int j) {
  return j / 4 * b_gap + j % 4;
}

}  // namespace ptq::cuda

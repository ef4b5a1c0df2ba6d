// The sums of a warp in fp32 (gemm.cuh), for operands that no tensor core multiplies exactly: one fmaf per product, in
// the order of k. A lane holds whole runs of 8 columns as on tensor cores and reads k in chunks of four.
#pragma once

#include "cuda/gemm.cuh"

namespace ptq::cuda {

template <class Shape>
class Sums<float, Shape> {
 public:
  __device__ void multiply(const uint4* x, const uint4* w) {
    const int x_row = tile_row<Shape>(0);
#pragma unroll
    for (int chunk = 0; chunk < gemm_chunks; ++chunk) {
      float4 a[Shape::lane_rows];
#pragma unroll
      for (int r = 0; r < Shape::lane_rows; ++r) a[r] = read(x + x_place(x_row + 8 * r, chunk));
#pragma unroll
      for (int g = 0; g < Shape::lane_runs; ++g) {
#pragma unroll
        for (int c = 0; c < run_columns; ++c) {
          const float4 b = read(w + w_place(tile_column<Shape>(g) + c, chunk));
#pragma unroll
          for (int r = 0; r < Shape::lane_rows; ++r) {
            sums_[r][g][c] = fmaf(a[r].x, b.x, sums_[r][g][c]);
            sums_[r][g][c] = fmaf(a[r].y, b.y, sums_[r][g][c]);
            sums_[r][g][c] = fmaf(a[r].z, b.z, sums_[r][g][c]);
            sums_[r][g][c] = fmaf(a[r].w, b.w, sums_[r][g][c]);
          }
        }
      }
    }
  }

  // Sum c of run g in row r of this lane.
  __device__ float& at(int r, int g, int c) { return sums_[r][g][c]; }

 private:
  __device__ static float4 read(const uint4* at) { return *reinterpret_cast<const float4*>(at); }

  float sums_[Shape::lane_rows][Shape::lane_runs][run_columns] = {};
};

}  // namespace ptq::cuda

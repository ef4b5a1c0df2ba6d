// GPTQ sweep, step 3: the product behind a block on tensor cores, with the accuracy of fp32
// Against step 2: only the rest. Tensor cores multiply halves; but a float has 24 bits and a bf16 has 8 and the same
// exponents, so that a float is the sum of three bf16, exactly. Of the nine products of the parts of e and of U six are
// formed: part p is at most 2^-8 and 2^-17 of the whole, what is left out at most 2^-24 of the product, as much as
// rounding it to fp32. The five small products are summed apart, so that the long sum has B additions, not 6 B.
//   formula   as step 1, but W_rk -= sum of e_0 U_0 + (sum of e_0 U_1 + e_1 U_0 + e_1 U_1 + e_0 U_2 + e_2 U_0)
//   shapes    W (N, I) f32   codes (N, I) u8   scales, zeros (N, G) f32   row_error (N) f64   U (I, I) f32, upper
//   maps      columns: step 2. rest: block <-> 64 x 64 elements of W, warp <-> 32 x 32, mma.m16n8k16
//   cost      the rest is 6 N I^2 flops on tensor cores instead of N I^2 on fp32 units; splitting is 8 instructions per
//             element of e and of U read
//   limits    |e|, |U| < 3.3e38 (bf16 rounds beyond to infinity); exact parts from 2^-110 on. The order in which tensor
//             cores add is not documented: another GPU may round a weight near a tie to the other code
//   twin      host/cpu/gptq.cpp, but not its bits     test  tests/test_steps_gptq.cpp     chain  B
#include "cuda/block.cuh"
#include "cuda/ptx.cuh"
#include "cuda/steps/gptq.h"

#include <algorithm>

namespace ptq::cuda {

namespace {

constexpr int side = 64;   // of a tile of W
constexpr int depth = 32;  // columns of the block at a time: two mma deep
constexpr int parts = 3;
constexpr int e_pitch = depth + 8, u_pitch = side + 8;  // the 8 rows of a matrix of ldmatrix lie in different banks
constexpr int e_part = side * e_pitch, u_part = depth * u_pitch;
constexpr int threads = 4 * warp_lanes;

// x as a sum of three bf16, a part's elements `apart` from those of the next. Every difference is exact.
__device__ void split(bf16* to, int apart, float x) {
#pragma unroll
  for (int p = 0; p < parts; ++p) {
    to[p * apart] = round_to<bf16>(x);
    x -= as_float(to[p * apart]);
  }
}

// A warp's operands of 16 k: 32 rows of e, 32 columns of U, in three parts.
struct Fragments {
  std::uint32_t e[parts][2][4], u[parts][4][2];

  __device__ Fragments(const bf16* e_tile, const bf16* u_tile, int k) {
    const int lane = lane_index(), row = warp_index() / 2 * 32, column = warp_index() % 2 * 32;
#pragma unroll
    for (int p = 0; p < parts; ++p) {
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        ldmatrix_x4(e[p][m], e_tile + p * e_part + (row + m * 16 + lane % 16) * e_pitch + k + lane / 16 * 8);
      }
#pragma unroll
      for (int n = 0; n < 4; n += 2) {  // matrices: (k, n), (k + 8, n), (k, n + 8), (k + 8, n + 8)
        std::uint32_t both[4];
        ldmatrix_x4_transposed(both, u_tile + p * u_part + (k + lane % 16) * u_pitch + column + n * 8 + lane / 16 * 8);
        u[p][n][0] = both[0], u[p][n][1] = both[1];
        u[p][n + 1][0] = both[2], u[p][n + 1][1] = both[3];
      }
    }
  }
};

}  // namespace

__global__ void __launch_bounds__(threads) gptq_tensor_rest_kernel(float* __restrict__ w,             // (N, I)
                                                                   const float* __restrict__ errors,  // (N, B)
                                                                   const float* __restrict__ u,       // (I, I)
                                                                   int rows,                          // N
                                                                   int columns,                       // I
                                                                   int block,                         // B
                                                                   int begin,                         // the block
                                                                   int end) {                         // behind it
  auto* const e_tile = dynamic_smem<bf16>();     // [3][64][40]: rows of W, columns of the block
  bf16* const u_tile = e_tile + parts * e_part;  // [3][32][72]: columns of the block, columns of W
  const int t = static_cast<int>(threadIdx.x), lane = lane_index();
  const std::int64_t first = std::int64_t{blockIdx.x} * side;
  const int c = end + static_cast<int>(blockIdx.y) * side;
  float sum[2][4][4] = {}, small[2][4][4] = {};
  for (int i = begin; i < end; i += depth) {
    for (int q = t; q < side * depth; q += threads) {
      const std::int64_t row = first + q / depth;
      const int k = q % depth;
      const float e = row < rows && i + k < end ? errors[row * block + i - begin + k] : 0.0f;
      split(e_tile + q / depth * e_pitch + k, e_part, e);
    }
    for (int q = t; q < depth * side; q += threads) {
      const int k = i + q / side, column = c + q % side;
      const float v = k < end && column < columns ? u[std::int64_t{k} * columns + column] : 0.0f;
      split(u_tile + q / side * u_pitch + q % side, u_part, v);
    }
    __syncthreads();  // the operands are complete
#pragma unroll
    for (int k = 0; k < depth; k += 16) {
      const Fragments f(e_tile, u_tile, k);
#pragma unroll
      for (int m = 0; m < 2; ++m) {
#pragma unroll
        for (int n = 0; n < 4; ++n) {
          mma_16816<bf16>(sum[m][n], f.e[0][m], f.u[0][n]);
          mma_16816<bf16>(small[m][n], f.e[0][m], f.u[1][n]);
          mma_16816<bf16>(small[m][n], f.e[1][m], f.u[0][n]);
          mma_16816<bf16>(small[m][n], f.e[1][m], f.u[1][n]);
          mma_16816<bf16>(small[m][n], f.e[0][m], f.u[2][n]);
          mma_16816<bf16>(small[m][n], f.e[2][m], f.u[0][n]);
        }
      }
    }
    __syncthreads();  // the operands may be overwritten
  }
#pragma unroll
  for (int m = 0; m < 2; ++m) {
#pragma unroll
    for (int n = 0; n < 4; ++n) {
#pragma unroll
      for (int x = 0; x < 4; ++x) {
        const std::int64_t row = first + warp_index() / 2 * 32 + m * 16 + mma_c_row(lane, x);
        const int column = c + warp_index() % 2 * 32 + n * 8 + mma_c_col(lane, x);
        if (row < rows && column < columns) w[row * columns + column] -= sum[m][n][x] + small[m][n][x];
      }
    }
  }
}

void gptq_sweep_tensor(Sweep s, Stream stream) {
  const double n = s.rows;
  for (int begin = 0; begin < s.columns; begin += s.block) {
    const int end = std::min(begin + s.block, s.columns), rest = s.columns - end;
    gptq_step_grids(s, begin, end, stream);
    gptq_step_columns(s, begin, end, stream);
    launch("gptq_tensor_rest", gptq_tensor_rest_kernel,
           {.grid = dim3(static_cast<unsigned>(tiles(s.rows, side)), static_cast<unsigned>(tiles(rest, side))),
            .block = threads,
            .smem = parts * (e_part + u_part) * sizeof(bf16),
            .stream = stream,
            .flops = 2.0 * n * rest * (end - begin),
            .bytes = 8.0 * n * rest + 4.0 * (n + rest) * (end - begin)},
           s.w, s.scratch, s.u, s.rows, s.columns, s.block, begin, end);
  }
}

}  // namespace ptq::cuda

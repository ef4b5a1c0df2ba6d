// What AWQ's clip search multiplies with (spec B.6)
//   formula   |X_g d|^2 of a group's tokens X_g is sum (d B_g) d with the Gram matrix B_g = X_g^T X_g, or sum (d B_g)^2
//             with B_g = X_g^T: the one with fewer columns K
//   shapes    B (I, ldb) f32, group after group, K <= ldb columns that count   X (S, I) f32
//   maps      block <-> tile of 64 x 64 of B; Gram: thread <-> 4 x 4 elements, a new fp32 chain every 128 tokens
//   cost      2 S I b flops for groups of b columns, or none: little beside the search
//   twin      host/cpu/awq_clip.cpp     test  tests/test_ops_awq.cpp     chain  128 + S / 128
#include "cuda/awq.h"

#include "cuda/launch.cuh"
#include "cuda/outer_product.cuh"

#include <algorithm>

namespace ptq::cuda {

namespace {

constexpr int threads = 256;
constexpr int tile = 64;          // of B
constexpr int token_part = 16;    // tokens in shared memory
constexpr int token_chain = 128;  // tokens of an fp32 chain
static_assert(tile * tile == 16 * threads, "a thread has 4 x 4 elements of the tile");
static_assert(token_chain % token_part == 0, "a chain ends with a part");

}  // namespace

// B_g = X_g^T X_g. What is beyond the group becomes 0.
__global__ void __launch_bounds__(threads) group_grams_kernel(float* __restrict__ b,        // (G, group, ldb)
                                                              const float* __restrict__ x,  // (S, I)
                                                              int tokens,                   // S
                                                              int columns,                  // I
                                                              int group, int ldb) {
  auto* left = dynamic_smem<float>();       // [token_part][tile], X of B's rows
  float* right = left + token_part * tile;  // the same of B's columns
  const int t = static_cast<int>(threadIdx.x), i0 = static_cast<int>(blockIdx.y) * tile;
  const int j0 = static_cast<int>(blockIdx.x) * tile, first = static_cast<int>(blockIdx.z) * group;
  float total[4][4] = {}, sum[4][4] = {};
  for (int token = 0; token < tokens; token += token_part) {
    for (int e = t; e < token_part * tile; e += threads) {
      const int s = token + e / tile, i = i0 + e % tile, j = j0 + e % tile;
      const float* row = x + static_cast<std::int64_t>(s) * columns + first;
      left[e] = s < tokens && i < group ? row[i] : 0.0f;
      right[e] = s < tokens && j < group ? row[j] : 0.0f;
    }
    __syncthreads();  // the tokens are complete
#pragma unroll
    for (int s = 0; s < token_part; ++s) {
      float y[4], z[4];
      load4(y, left + s * tile + t / 16 * 4);
      load4(z, right + s * tile + t % 16 * 4);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j) sum[i][j] = fmaf(y[i], z[j], sum[i][j]);
      }
    }
    __syncthreads();  // the tokens may be replaced
    if ((token + token_part) % token_chain != 0 && token + token_part < tokens) continue;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        total[i][j] += sum[i][j];
        sum[i][j] = 0.0f;
      }
    }
  }
  for (int i = 0; i < 4; ++i) {
    for (int j = 0; j < 4; ++j) {
      const int row = i0 + t / 16 * 4 + i, column = j0 + t % 16 * 4 + j;
      if (row < group && column < ldb) b[(static_cast<std::int64_t>(first) + row) * ldb + column] = total[i][j];
    }
  }
}

// B = X^T. What is beyond the tokens becomes 0.
__global__ void __launch_bounds__(threads) transpose_kernel(float* __restrict__ b,        // (I, ldb)
                                                            const float* __restrict__ x,  // (S, I)
                                                            int tokens,                   // S
                                                            int columns,                  // I
                                                            int ldb) {
  auto* part = dynamic_smem<float>();  // [tile][tile + 1], so that its rows and its columns are in all banks
  const int i0 = static_cast<int>(blockIdx.x) * tile, s0 = static_cast<int>(blockIdx.y) * tile;
  for (int e = static_cast<int>(threadIdx.x); e < tile * tile; e += threads) {
    const int s = s0 + e / tile, i = i0 + e % tile;
    part[e / tile * (tile + 1) + e % tile] =
        s < tokens && i < columns ? x[static_cast<std::int64_t>(s) * columns + i] : 0.0f;
  }
  __syncthreads();  // the tile is complete
  for (int e = static_cast<int>(threadIdx.x); e < tile * tile; e += threads) {
    const int i = i0 + e / tile, s = s0 + e % tile;
    if (i < columns && s < ldb) b[static_cast<std::int64_t>(i) * ldb + s] = part[e % tile * (tile + 1) + e / tile];
  }
}

ClipFactor clip_factor(std::int64_t tokens, std::int64_t group) {
  const std::int64_t terms = std::min(tokens, group);
  return {group <= tokens, static_cast<int>(terms), static_cast<int>(tiles(terms, 4) * 4)};
}

void form_clip_factor(float* b, const ClipFactor& f, const float* x, std::int64_t columns, std::int64_t tokens,
                      std::int64_t group, Stream stream) {
  const auto down = static_cast<unsigned>(tiles(f.gram ? group : columns, tile));
  const auto across = static_cast<unsigned>(tiles(f.pitch, tile));
  const double size = static_cast<double>(columns) * static_cast<double>(tokens);
  if (f.gram) {
    launch("group_grams", group_grams_kernel,
           {.grid = {across, down, static_cast<unsigned>(columns / group)},
            .block = threads,
            .smem = 2 * token_part * tile * sizeof(float),
            .stream = stream,
            .flops = 2.0 * size * static_cast<double>(group),
            .bytes = 4.0 * size + 4.0 * static_cast<double>(columns) * f.pitch},
           b, x, static_cast<int>(tokens), static_cast<int>(columns), static_cast<int>(group), f.pitch);
  } else {
    launch("transpose", transpose_kernel,
           {.grid = {down, across},
            .block = threads,
            .smem = tile * (tile + 1) * sizeof(float),
            .stream = stream,
            .bytes = 8.0 * size},
           b, x, static_cast<int>(tokens), static_cast<int>(columns), f.pitch);
  }
}

}  // namespace ptq::cuda

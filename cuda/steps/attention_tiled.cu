// Attention, step 2: a block's rows share tiles of keys and values in shared memory, and softmax goes along with them
// Against step 1: a key is loaded once per block instead of once per row and pass, and a score is computed once. What
// was summed under a smaller maximum is not lost, it is multiplied by 2^(old maximum - new maximum).
//   formula   per tile of keys: S = Q K^T, top' = max(top, S), W = 2^(S - top'), O = O 2^(top - top') + W V,
//             sum = sum 2^(top - top') + W 1; at the end O / sum (FlashAttention, arXiv 2205.14135)
//   shapes    o, q (R, H*C)   k, v (T, K*C)   tiles (n): the rows of a block
//   maps      block x ↔ (tile x / K, key/value head x % K); thread t ↔ row t / 4, whose q and o four threads keep in
//             registers: elements 16 i + 4 (t % 4) .. + 3. A score is the sum of their four parts.
//   cost      4 C flops per row and seen key, on fp32 units; a load of 16 bytes from shared memory for every 4 fmaf
//   limits    a NaN or infinity in V reaches the earlier rows of its tile (0 times it); one in Q or K does not
//   twin      host/cpu/attention.cpp     test  tests/test_ops_attention.cpp     chain  C/4 + 2; then all keys of a row
#include "cuda/attention.cuh"
#include "cuda/block.cuh"
#include "cuda/outer_product.cuh"
#include "cuda/steps/attention.h"
#include "cuda/steps/attention_step.cuh"
#include "cuda/types.h"

namespace ptq::cuda {

namespace {

constexpr int row_threads = 4, threads = attention_rows * row_threads;
constexpr int keys = 16;  // of a tile: a thread keeps their scores in registers beside P/4 elements of q and of o

template <class T, int P>  // P >= C
__global__ void __launch_bounds__(threads, P > 64 ? 1 : 2)
    attention_tiled_kernel(T* __restrict__ o,                    // (R, H*C)
                           const T* __restrict__ q,              // (R, H*C)
                           const T* __restrict__ k,              // (T, K*C)
                           const T* __restrict__ v,              // (T, K*C)
                           const QueryTile* __restrict__ tiles,  // (blocks / K)
                           AttentionForm form) {
  float* k_tile = dynamic_smem<float>();  // [keys][P], zeros from element C and from key `end` on
  float* v_tile = k_tile + keys * P;      // [keys][P]
  const AttentionPlace place(tiles, form);
  const int x = static_cast<int>(threadIdx.x) % row_threads, row = static_cast<int>(threadIdx.x) / row_threads;
  const int C = form.head_dim, end = place.end();
  const bool exists = row < place.tile.count;

  float query[P / 16][4], sum[P / 16][4] = {};
#pragma unroll
  for (int d = 0; d < P / 4; ++d) {
    const int at = d / 4 * 16 + 4 * x + d % 4;
    query[d / 4][d % 4] = exists && at < C ? as_float(q[place.query(row) + at]) : 0.0f;
  }
  SoftmaxRow softmax(place, row);
  for (int first = place.first(keys); first < end; first += keys) {
    __syncthreads();  // all threads are done with the last tile
    for (int i = static_cast<int>(threadIdx.x); i < keys * P; i += threads) {
      const int key = first + i / P, d = i % P;
      const bool inside = key < end && d < C;
      k_tile[i] = inside ? as_float(k[place.key(key) + d]) : 0.0f;
      v_tile[i] = inside ? as_float(v[place.key(key) + d]) : 0.0f;
    }
    __syncthreads();  // this tile is complete

    float s[keys], best = -INFINITY;
#pragma unroll
    for (int j = 0; j < keys; ++j) {
      float product = 0.0f;
#pragma unroll
      for (int i = 0; i < P / 16; ++i) {
        float key[4];
        load4(key, k_tile + j * P + 16 * i + 4 * x);
#pragma unroll
        for (int e = 0; e < 4; ++e) product = fmaf(query[i][e], key[e], product);
      }
      product += __shfl_xor_sync(all_lanes, product, 1);
      product += __shfl_xor_sync(all_lanes, product, 2);
      s[j] = softmax.sees(first + j, form.window) ? attention_score(product, form) : -INFINITY;
      best = fmaxf(best, s[j]);
    }
    const float rescale = softmax.raise(best);
#pragma unroll
    for (int d = 0; d < P / 4; ++d) sum[d / 4][d % 4] *= rescale;
#pragma unroll
    for (int j = 0; j < keys; ++j) {
      const float weight = softmax.weight(s[j]);
      softmax.sum += weight;
#pragma unroll
      for (int i = 0; i < P / 16; ++i) {
        float value[4];
        load4(value, v_tile + j * P + 16 * i + 4 * x);
#pragma unroll
        for (int e = 0; e < 4; ++e) sum[i][e] = fmaf(weight, value[e], sum[i][e]);
      }
    }
  }
  if (!exists) return;
  const float inverse = 1.0f / softmax.sum;
#pragma unroll
  for (int d = 0; d < P / 4; ++d) {
    const int at = d / 4 * 16 + 4 * x + d % 4;
    if (at < C) o[place.query(row) + at] = round_to<T>(normalized(sum[d / 4][d % 4], inverse));
  }
}

}  // namespace

void attention_tiled(void* o, const void* q, const void* k, const void* v, DType dtype, const AttentionWork& work,
                     Stream stream) {
  visit_half(dtype, [&](auto type) {
    using T = decltype(type);
    visit_step_head(work.form.head_dim, [&]<int P>(std::integral_constant<int, P>) {
      launch("attention_tiled", attention_tiled_kernel<T, P>,
             attention_launch(work, threads, sizeof(float) * 2 * keys * P, stream), static_cast<T*>(o),
             static_cast<const T*>(q), static_cast<const T*>(k), static_cast<const T*>(v), work.tiles, work.form);
    });
  });
}

}  // namespace ptq::cuda

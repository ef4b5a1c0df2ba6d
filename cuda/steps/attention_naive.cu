// Attention, step 1: a thread computes a row of o by the formula, straight from global memory
//   formula   o[i] = sum_j softmax_j(cap(scale q[i] . k[j])) v[j] over the keys j that row i sees (cuda/attention.cu)
//   shapes    o, q (R, H*C)   k, v (T, K*C)   tiles (n): the rows of a block
//   maps      block x ↔ (tile x / K, key/value head x % K); thread r ↔ row r of the tile
//   passes    over the row's keys: the largest score; the sum of the weights; then the weighted values, for 32 elements
//             of o at a time, because a thread cannot hold all of them. No score is kept: each pass computes them anew.
//   cost      (2 + C/32) 2 C flops for scores and 2 C for values per row and seen key; every operand is a load of two
//             bytes. The lanes of a warp share a key, but each has a query of its own, in another line of memory.
//   twin      host/cpu/attention.cpp     test  tests/test_ops_attention.cpp     chain  C; then all keys of a row
#include "cuda/attention.cuh"
#include "cuda/steps/attention.h"
#include "cuda/steps/attention_step.cuh"
#include "cuda/types.h"

namespace ptq::cuda {

namespace {

constexpr int columns = 32;  // elements of o that a thread sums in registers

template <class T>
__global__ void __launch_bounds__(attention_rows)
    attention_naive_kernel(T* __restrict__ o,                    // (R, H*C)
                           const T* __restrict__ q,              // (R, H*C)
                           const T* __restrict__ k,              // (T, K*C)
                           const T* __restrict__ v,              // (T, K*C)
                           const QueryTile* __restrict__ tiles,  // (blocks / K)
                           AttentionForm form) {
  const AttentionPlace place(tiles, form);
  const int row = static_cast<int>(threadIdx.x), C = form.head_dim;
  if (row >= place.tile.count) return;
  const T* query = q + place.query(row);
  T* to = o + place.query(row);
  const auto score = [&](int at) {
    const T* key = k + place.key(at);
    float product = 0.0f;
    for (int d = 0; d < C; ++d) product = fmaf(as_float(query[d]), as_float(key[d]), product);
    return attention_score(product, form);
  };

  SoftmaxRow softmax(place, row);
  const int first = max(0, softmax.last - form.window + 1), last = softmax.last;
  for (int at = first; at <= last; ++at) softmax.top = fmaxf(softmax.top, score(at));
  for (int at = first; at <= last; ++at) softmax.sum += softmax.weight(score(at));
  const float inverse = 1.0f / softmax.sum;
  for (int begin = 0; begin < C; begin += columns) {
    const int count = min(columns, C - begin);
    float sum[columns] = {};
    for (int at = first; at <= last; ++at) {
      const float weight = softmax.weight(score(at));
      const T* value = v + place.key(at) + begin;
#pragma unroll
      for (int d = 0; d < columns; ++d) {
        if (d < count) sum[d] = fmaf(weight, as_float(value[d]), sum[d]);
      }
    }
#pragma unroll
    for (int d = 0; d < columns; ++d) {
      if (d < count) to[begin + d] = round_to<T>(normalized(sum[d], inverse));
    }
  }
}

}  // namespace

void attention_naive(void* o, const void* q, const void* k, const void* v, DType dtype, const AttentionWork& work,
                     Stream stream) {
  visit_half(dtype, [&](auto type) {
    using T = decltype(type);
    launch("attention_naive", attention_naive_kernel<T>, attention_launch(work, attention_rows, 0, stream),
           static_cast<T*>(o), static_cast<const T*>(q), static_cast<const T*>(k), static_cast<const T*>(v), work.tiles,
           work.form);
  });
}

}  // namespace ptq::cuda

// What the two attention kernels share: where rows and keys lie, how tiles reach shared memory, and the online softmax
// of a row.
//
// The bits of a row are its own. Key tiles lie at fixed positions of its sequence (prefix first), whatever block, batch
// or number of rows it is computed in; its sums run over key tiles in order; and a tile of which it sees no key changes
// nothing (weights 0, rescale 1), so that it does not matter whether the other rows of the block made it necessary.
#pragma once

#include "cuda/attention.h"
#include "cuda/ptx.cuh"

#include <algorithm>
#include <cmath>
#include <type_traits>

namespace ptq::cuda {

// Offsets of a block's rows and keys in q, o and k, v.
struct AttentionPlace {
  const AttentionForm& form;
  int kv_head;  // of the block
  QueryTile tile;

  __device__ AttentionPlace(const QueryTile* tiles, const AttentionForm& of)
      : form(of),
        kv_head(static_cast<int>(blockIdx.x % static_cast<unsigned>(of.kv_heads))),
        tile(tiles[blockIdx.x / static_cast<unsigned>(of.kv_heads)]) {}

  __device__ int position(int row) const { return tile.position + (tile.head + row) / form.group; }
  __device__ std::int64_t query(int row) const {
    const int pair = tile.head + row;
    return offset(tile.token + pair / form.group, form.q_width) +
           (kv_head * form.group + pair % form.group) * form.head_dim;
  }
  __device__ int end() const { return position(tile.count - 1) + 1; }  // of the keys that some row sees
  __device__ int first(int keys) const {                               // of them, at the start of a tile of `keys`
    return max(0, tile.position - form.window + 1) / keys * keys;
  }
  __device__ std::int64_t key(int at) const {
    return offset((at < tile.before ? tile.prefix : tile.own) + at, form.kv_width) + kv_head * form.head_dim;
  }
  __device__ static std::int64_t offset(int row, int width) { return std::int64_t{row} * width; }
};

// Rows of C elements to shared memory, `stride` apart, by all threads of the block: row r from source(r), zeros from
// element C to P and in rows from `count` on. `vectors`: sources lie at multiples of 16 bytes; the copies are then
// asynchronous and the caller waits for them.
template <int threads, int rows, int P, int stride, bool vectors, class T, class Source>
__device__ void load_rows(T* to, int count, int C, Source source) {
  if constexpr (vectors) {
    constexpr int size = 16 / sizeof(T), chunks = P / size;
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x); i < rows * chunks; i += threads) {
      const int row = i / chunks, d = i % chunks * size;
      cp_async_16(to + row * stride + d, source(min(row, count - 1)) + d, row < count && d < C ? 16 : 0);
    }
  } else {
#pragma unroll 1
    for (int i = static_cast<int>(threadIdx.x); i < rows * P; i += threads) {
      const int row = i / P, d = i % P;
      to[row * stride + d] = row < count && d < C ? source(row)[d] : T{};
    }
  }
}

// The exponent of 2 that the softmax takes: log2(e) times the scaled and capped product.
__device__ inline float attention_score(float product, const AttentionForm& form) {
  return form.factor * (form.inner > 0.0f ? tanhf(product * form.inner) : product);
}

// Online softmax of a row: weights so far are 2^(score - top). `sum` is the thread's part of their sum.
struct SoftmaxRow {
  int last;  // position of the row's token, the last key that it sees
  float top = -INFINITY, sum = 0.0f;

  __device__ SoftmaxRow(const AttentionPlace& place, int row)
      : last(row < place.tile.count ? place.position(row) : -1) {}  // rows beyond the tile see nothing

  __device__ bool sees(int position, int window) const {
    return static_cast<unsigned>(last - position) < static_cast<unsigned>(window);
  }
  // Some or all of the keys first .. first + keys - 1.
  __device__ bool sees_some(int first, int keys, int window) const {
    return first <= last && last - (first + keys - 1) < window;
  }
  __device__ bool sees_all(int first, int keys, int window) const {
    return first + keys - 1 <= last && last - first < window;
  }

  // Takes the largest score of a tile in; returns what earlier sums are to be multiplied by: exactly 1 if it is not the
  // largest of all. NaN is not seen here; it comes back as a weight.
  __device__ float raise(float best) {
    const float earlier = top;
    top = fmaxf(top, best);
    const float rescale = exp2f(earlier - base());
    sum *= rescale;
    return rescale;
  }
  __device__ float weight(float score) const { return exp2f(score - base()); }  // in [0, 1]
  __device__ float base() const { return top == -INFINITY ? 0.0f : top; }       // no key seen: weights are 2^-inf = 0
};

// An element of a row's result from its sum. + 0 makes -0 a 0, as adding a tile of zeros does.
__device__ inline float normalized(float x, float inverse_sum) { return fmaf(x, inverse_sum, 0.0f); }

// f(std::true_type{}) if rows of C elements at these addresses can be copied in vectors of 16 bytes, else
// std::false_type.
template <class T, class F, class... Pointers>
void visit_vectors(int C, F&& f, Pointers... pointers) {
  const auto whole = [](auto address) { return reinterpret_cast<std::uintptr_t>(address) % 16 == 0; };
  if (C * sizeof(T) % 16 == 0 && (whole(pointers) && ...)) return f(std::true_type{});
  return f(std::false_type{});
}

}  // namespace ptq::cuda

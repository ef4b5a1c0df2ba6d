// Parts of a row between memory and registers, 16 bytes an access, for kernels that are bound by memory.
//
// Rows of odd width or at odd addresses exist (slices of tensors), so that kernels come in two forms: with `vector`
// every access is of 16 aligned bytes, without it of one element. A thread has the same elements in both, in the same
// order: the results have the same bits.
#pragma once

#include "cuda/ptx.cuh"

#include <cstdint>
#include <initializer_list>

namespace ptq::cuda {

// Elements of 16 bytes, the widest access of a thread. A thread's work comes in chunks.
template <class T>
inline constexpr int chunk = 16 / static_cast<int>(sizeof(T));

// Whether rows of this many bytes, one after the other from each of these addresses, are all aligned to 16 bytes.
inline bool fits_vectors(std::int64_t row_bytes, std::initializer_list<const void*> rows) {
  bool fits = row_bytes % 16 == 0;
  for (const void* p : rows) fits = fits && reinterpret_cast<std::uintptr_t>(p) % 16 == 0;
  return fits;
}

template <class T>
__device__ inline void widen(float* to, uint4 from) {
  const unsigned word[4] = {from.x, from.y, from.z, from.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if constexpr (sizeof(T) == 4) {
      to[i] = __uint_as_float(word[i]);
    } else {
      const float2 pair = unpack_pair<T>(word[i]);
      to[2 * i] = pair.x;
      to[2 * i + 1] = pair.y;
    }
  }
}

template <class T>
__device__ inline uint4 narrow(const float* from) {
  unsigned word[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if constexpr (sizeof(T) == 4) {
      word[i] = __float_as_uint(from[i]);
    } else {
      word[i] = pack_pair<T>(from[2 * i], from[2 * i + 1]);
    }
  }
  return make_uint4(word[0], word[1], word[2], word[3]);
}

// to = the n elements from `from` on, of which `count` (if less) exist; the rest becomes 0. With `vector` all exist.
template <bool vector, class T, int n>
__device__ inline void load(float (&to)[n], const T* from, std::int64_t count) {
  if constexpr (vector) {
    static_assert(n % chunk<T> == 0, "a vector access moves whole chunks");
#pragma unroll
    for (int i = 0; i < n; i += chunk<T>) widen<T>(to + i, *reinterpret_cast<const uint4*>(from + i));
  } else {
#pragma unroll
    for (int i = 0; i < n; ++i) to[i] = i < count ? as_float(from[i]) : 0.0f;
  }
}

// The first `count` elements at `to` (n, if less) = from, rounded. With `vector` all n.
template <bool vector, class T, int n>
__device__ inline void store(T* to, const float (&from)[n], std::int64_t count) {
  if constexpr (vector) {
    static_assert(n % chunk<T> == 0, "a vector access moves whole chunks");
#pragma unroll
    for (int i = 0; i < n; i += chunk<T>) *reinterpret_cast<uint4*>(to + i) = narrow<T>(from + i);
  } else {
#pragma unroll
    for (int i = 0; i < n; ++i) {
      if (i < count) to[i] = round_to<T>(from[i]);
    }
  }
}

// The same for tensors taken as one row of any length, whose last chunk need not be whole.
template <bool vector, class T, int n>
__device__ inline void load_any(float (&to)[n], const T* from, std::int64_t count) {
  if (vector && count >= n) {
    load<vector>(to, from, count);
  } else {
    load<false>(to, from, count);
  }
}
template <bool vector, class T, int n>
__device__ inline void store_any(T* to, const float (&from)[n], std::int64_t count) {
  if (vector && count >= n) {
    store<vector>(to, from, count);
  } else {
    store<false>(to, from, count);
  }
}

// --- blocks of rows: threadIdx.y is the row in the block, threadIdx.x walks along it ---------------------------------

constexpr int row_block_threads = 256;  // 8 warps: enough loads in flight, and 8 blocks fill an SM

struct RowBlocks {
  unsigned grid;
  dim3 block;
};

// For rows of `items` pieces of work each: as many threads a row as there are items, at most the block.
inline RowBlocks row_blocks(std::int64_t rows, std::int64_t items) {
  int wide = 1;
  while (wide < items && wide < row_block_threads) wide *= 2;
  const int high = row_block_threads / wide;
  return {static_cast<unsigned>(tiles(rows, high)), dim3(static_cast<unsigned>(wide), static_cast<unsigned>(high))};
}

__device__ inline std::int64_t row_of_thread() {
  return static_cast<std::int64_t>(blockIdx.x) * static_cast<int>(blockDim.y) + static_cast<int>(threadIdx.y);
}

}  // namespace ptq::cuda

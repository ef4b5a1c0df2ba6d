// Rotary positions, in place
//   formula   (a, b) -> (a cos - b sin, b cos + a sin) for the pairs of every head: half_split (i, i + P), interleaved
//             (2i, 2i + 1); dimensions from 2P on stay
//   shapes    x (T, H C)   cos, sin (T, P), 2P <= C
//   maps      threadIdx.y <-> token of the block, threadIdx.x <-> (head, run of pairs): two chunks of 16 bytes
//   cost      6 T H P flops; reads and writes T H 2P elements, cos and sin come from the caches: memory-bound
//   twin      host/cpu/layers.cpp     test  tests/test_ops_layers.cpp     chain  2
#include "cuda/chunk.cuh"
#include "cuda/launch.cuh"
#include "cuda/layers.h"
#include "cuda/types.h"

namespace ptq::cuda {

template <int n>
__device__ inline void rotate(float (&a)[n], float (&b)[n], const float (&c)[n], const float (&s)[n]) {
#pragma unroll
  for (int i = 0; i < n; ++i) {
    const float before = a[i];
    a[i] = before * c[i] - b[i] * s[i];
    b[i] = b[i] * c[i] + before * s[i];
  }
}

template <class T, bool vector>
__global__ void __launch_bounds__(row_block_threads) rope_kernel(T* __restrict__ x,              // (T, heads C)
                                                                 const float* __restrict__ cos,  // (T, pairs)
                                                                 const float* __restrict__ sin,  // (T, pairs)
                                                                 std::int64_t rows,              // T
                                                                 int heads,
                                                                 int head_dim,  // C
                                                                 int pairs,     // P
                                                                 RopeStyle style) {
  constexpr int run = chunk<T>;  // pairs of a thread
  const std::int64_t row = row_of_thread();
  if (row >= rows) return;
  const int runs = static_cast<int>(tiles(pairs, run));  // of a head
  for (int item = static_cast<int>(threadIdx.x); item < heads * runs; item += static_cast<int>(blockDim.x)) {
    const int head = item / runs, i = item % runs * run, count = pairs - i;
    T* at = x + (row * heads + head) * head_dim;
    float c[run], s[run], a[run], b[run];
    load<vector>(c, cos + row * pairs + i, count);
    load<vector>(s, sin + row * pairs + i, count);
    if (style == RopeStyle::half_split) {
      load<vector>(a, at + i, count);
      load<vector>(b, at + pairs + i, count);
      rotate(a, b, c, s);
      store<vector>(at + i, a, count);
      store<vector>(at + pairs + i, b, count);
    } else {
      float both[2 * run];
      load<vector>(both, at + 2 * i, 2 * count);
#pragma unroll
      for (int e = 0; e < run; ++e) {
        a[e] = both[2 * e];
        b[e] = both[2 * e + 1];
      }
      rotate(a, b, c, s);
#pragma unroll
      for (int e = 0; e < run; ++e) {
        both[2 * e] = a[e];
        both[2 * e + 1] = b[e];
      }
      store<vector>(at + 2 * i, both, 2 * count);
    }
  }
}

void rope(void* x, const float* cos, const float* sin, DType dtype, std::int64_t rows, int heads, int head_dim,
          int pairs, RopeStyle style, Stream stream) {
  visit_float(dtype, [&]<class T>(T) {
    // Every run of pairs and every head must begin at a multiple of 16 bytes.
    const bool vector = pairs % chunk<T> == 0 && head_dim % chunk<T> == 0 && fits_vectors(0, {x, cos, sin});
    const auto [grid, block] = row_blocks(rows, heads * tiles(pairs, chunk<T>));
    const double n = static_cast<double>(rows) * heads * pairs;
    launch("rope", vector ? rope_kernel<T, true> : rope_kernel<T, false>,
           {.grid = grid, .block = block, .stream = stream, .flops = 6.0 * n, .bytes = 4.0 * sizeof(T) * n},
           static_cast<T*>(x), cos, sin, rows, heads, head_dim, pairs, style);
  });
}

}  // namespace ptq::cuda

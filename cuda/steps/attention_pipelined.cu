// Attention, step 4: the next tile is copied while this one is computed
// Against step 3: two buffers for K and V. A copy has the time of a whole tile's computation to arrive, and a tile
// needs one barrier, which says that this buffer is full and that the other is free.
//   formula   as step 2: per tile of keys S = Q K^T, W = 2^(S - top), O = O 2^(old top - top) + W V; then O / sum
//   shapes    o, q (R, H*C)   k, v (T, K*C)   tiles (n): the rows of a block
//   maps      block x ↔ (tile x / K, key/value head x % K); warp w ↔ rows 16 w .. 16 w + 15 (attention_mma.cuh)
//   cost      as step 3; shared memory for 64 rows of Q and 128 of K and V: 99 KiB for C > 128, all that sm_89 has
//   limits    a NaN or infinity in V reaches the earlier rows of its tile (0 times it); one in Q or K does not
//   twin      host/cpu/attention.cpp     test  tests/test_ops_attention.cpp     chain  C; 32 keys, then the tiles
#include "cuda/steps/attention.h"
#include "cuda/steps/attention_mma.cuh"
#include "cuda/steps/attention_step.cuh"
#include "cuda/types.h"

namespace ptq::cuda {

namespace {

template <class T, int P, bool vectors>  // P >= C; vectors: rows of heads lie at multiples of 16 bytes
__global__ void __launch_bounds__(AttentionWarp<T, P>::threads, AttentionWarp<T, P>::blocks) attention_pipelined_kernel(
    T* __restrict__ o,        // (R, H*C)
    const T* __restrict__ q,  // (R, H*C)
    const T* __restrict__ k,  // (T, K*C)
    const T* __restrict__ v,  // (T, K*C)
    const QueryTile* tiles,   // (blocks / K), read again at the end (not __restrict__) to free registers
    AttentionForm form) {
  using Warp = AttentionWarp<T, P>;
  constexpr int keys = Warp::keys, stride = Warp::stride, threads = Warp::threads;
  T* q_tile = dynamic_smem<T>();                  // [64][stride]
  T* buffers = q_tile + attention_rows * stride;  // [2][K and V][keys][stride]
  const AttentionPlace place(tiles, form);
  const int end = place.end(), C = form.head_dim;
  const auto buffer = [&](int first) { return buffers + first / keys % 2 * (2 * keys * stride); };
  const auto load = [&](int first) {
    const int count = min(keys, end - first);
    T* to = buffer(first);
    load_rows<threads, keys, P, stride, vectors>(to, count, C, [&](int j) { return k + place.key(first + j); });
    load_rows<threads, keys, P, stride, vectors>(to + keys * stride, count, C,
                                                 [&](int j) { return v + place.key(first + j); });
    cp_async_commit();
  };

  load_rows<threads, attention_rows, P, stride, vectors>(q_tile, place.tile.count, C,
                                                         [&](int row) { return q + place.query(row); });
  Warp warp(place);
  int first = place.first(keys);
  load(first);
  for (; first < end; first += keys) {
    cp_async_wait<0>();
    __syncthreads();  // this tile (and the queries) have arrived; all warps are done with the other buffer
    if (first + keys < end) load(first + keys);
    warp.add_tile(q_tile, buffer(first), buffer(first) + keys * stride, first);
  }
  warp.write(o, AttentionPlace(tiles, form));
}

}  // namespace

void attention_pipelined(void* o, const void* q, const void* k, const void* v, DType dtype, const AttentionWork& work,
                         Stream stream) {
  visit_half(dtype, [&](auto type) {
    using T = decltype(type);
    const auto run = [&]<int P, bool vectors>(std::integral_constant<int, P>, std::bool_constant<vectors>) {
      using Warp = AttentionWarp<T, P>;
      launch(
          "attention_pipelined", attention_pipelined_kernel<T, P, vectors>,
          attention_launch(work, Warp::threads, sizeof(T) * (attention_rows + 4 * Warp::keys) * Warp::stride, stream),
          static_cast<T*>(o), static_cast<const T*>(q), static_cast<const T*>(k), static_cast<const T*>(v), work.tiles,
          work.form);
    };
    const int C = work.form.head_dim;
    visit_vectors<T>(
        C, [&](auto vectors) { visit_step_head(C, [&](auto P) { run(P, vectors); }); }, q, k, v);
  });
}

}  // namespace ptq::cuda

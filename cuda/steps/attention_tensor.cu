// Attention, step 3: the two products on tensor cores
// Against step 2: an mma.sync of a warp does 2048 multiply-adds, an fmaf of it 32. Operands stay halves and come from
// shared memory by ldmatrix; W stays in registers, because the sums of one mma lie like the left operand of the next.
// Tiles are copied in 16 bytes by cp.async, which is waited for at once: first all copy, then all compute.
//   formula   as step 2: per tile of keys S = Q K^T, W = 2^(S - top), O = O 2^(old top - top) + W V; then O / sum
//   shapes    o, q (R, H*C)   k, v (T, K*C)   tiles (n): the rows of a block
//   maps      block x ↔ (tile x / K, key/value head x % K); warp w ↔ rows 16 w .. 16 w + 15 (attention_mma.cuh)
//   cost      4 C flops per row and seen key, the half of W V 3 times (bf16) or twice (f16) for its accuracy
//   limits    a NaN or infinity in V reaches the earlier rows of its tile (0 times it); one in Q or K does not
//   twin      host/cpu/attention.cpp     test  tests/test_ops_attention.cpp     chain  C; 32 keys, then the tiles
#include "cuda/steps/attention.h"
#include "cuda/steps/attention_mma.cuh"
#include "cuda/steps/attention_step.cuh"
#include "cuda/types.h"

namespace ptq::cuda {

namespace {

template <class T, int P, bool vectors>  // P >= C; vectors: rows of heads lie at multiples of 16 bytes
__global__ void __launch_bounds__(AttentionWarp<T, P>::threads, AttentionWarp<T, P>::blocks) attention_tensor_kernel(
    T* __restrict__ o,        // (R, H*C)
    const T* __restrict__ q,  // (R, H*C)
    const T* __restrict__ k,  // (T, K*C)
    const T* __restrict__ v,  // (T, K*C)
    const QueryTile* tiles,   // (blocks / K), read again at the end (not __restrict__) to free registers
    AttentionForm form) {
  using Warp = AttentionWarp<T, P>;
  constexpr int keys = Warp::keys, stride = Warp::stride, threads = Warp::threads;
  T* q_tile = dynamic_smem<T>();                 // [64][stride]
  T* k_tile = q_tile + attention_rows * stride;  // [keys][stride]
  T* v_tile = k_tile + keys * stride;            // [keys][stride]
  const AttentionPlace place(tiles, form);
  const int end = place.end(), C = form.head_dim;

  load_rows<threads, attention_rows, P, stride, vectors>(q_tile, place.tile.count, C,
                                                         [&](int row) { return q + place.query(row); });
  Warp warp(place);
  for (int first = place.first(keys); first < end; first += keys) {
    const int count = min(keys, end - first);
    __syncthreads();  // all warps are done with the last tile
    load_rows<threads, keys, P, stride, vectors>(k_tile, count, C, [&](int j) { return k + place.key(first + j); });
    load_rows<threads, keys, P, stride, vectors>(v_tile, count, C, [&](int j) { return v + place.key(first + j); });
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();  // this tile (and the queries) have arrived
    warp.add_tile(q_tile, k_tile, v_tile, first);
  }
  warp.write(o, AttentionPlace(tiles, form));
}

}  // namespace

void attention_tensor(void* o, const void* q, const void* k, const void* v, DType dtype, const AttentionWork& work,
                      Stream stream) {
  visit_half(dtype, [&](auto type) {
    using T = decltype(type);
    const auto run = [&]<int P, bool vectors>(std::integral_constant<int, P>, std::bool_constant<vectors>) {
      using Warp = AttentionWarp<T, P>;
      launch(
          "attention_tensor", attention_tensor_kernel<T, P, vectors>,
          attention_launch(work, Warp::threads, sizeof(T) * (attention_rows + 2 * Warp::keys) * Warp::stride, stream),
          static_cast<T*>(o), static_cast<const T*>(q), static_cast<const T*>(k), static_cast<const T*>(v), work.tiles,
          work.form);
    };
    const int C = work.form.head_dim;
    visit_vectors<T>(
        C, [&](auto vectors) { visit_step_head(C, [&](auto P) { run(P, vectors); }); }, q, k, v);
  });
}

}  // namespace ptq::cuda

// Causal attention of bf16 and f16 on tensor cores: grouped heads, packed segments, prefixes, window, soft cap
//   formula   o[i] = sum_j softmax_j(cap(scale q[i] . k[j])) v[j] over the keys j of i's segment and its prefix with
//             i - window < j <= i; online softmax (FlashAttention-2): per key tile S = Q K^T, W = 2^(S - top),
//             O = O 2^(old top - top) + W V, at the end O / sum W
//   shapes    o, q (R, H*C)   k, v (T, K*C)   tiles (n): the rows of a block, host-made (backend/attention.cpp)
//   maps      block x ↔ (tile x / K, key/value head x % K), longest tiles first; its 64 rows are (token, query head)
//             pairs, so that query heads share their keys and one decoded token fills up to H/K rows; warp w ↔ rows
//             16 w .. 16 w + 15; W stays in registers, where the sums of S are the left operand of W V;
//             heads beyond 192 have two warps for the same rows, as O does not fit the registers of one
//   copies    one buffer each for K and V: V arrives while S is computed, the next K while W V is
//   accuracy  a weight rounded to one half would be wrong by as much as the output's rounding. It enters as a sum of
//             halves: three bf16 hold every bit of it; two f16 hold 22 bits of it times 2^15, which keeps both normal
//             down to weights of 2^-18 (below, the error is 2^-40 of the largest). W V of a tile is summed from zero
//             and added to O by fmaf, so that only short chains see how tensor cores round. What is left are fp32
//             errors.
//   cost      4 C flops per row and seen key; on tensor cores 2 C for S (twice that for C > 192) and 3 (bf16)
//             or 2 (f16) times 2 C for W V, where one bf16 product each would be 4 C in all.
//             Compute-bound, in decoding bound by reading K and V once per key/value head: a block then walks through
//             all of its keys alone. Dividing them over blocks would need all rows to merge partial softmaxes in that
//             way, because decoding owes the bits of the whole.
//   limits    a NaN or infinity in V reaches the earlier rows of its tile (0 times it); one in Q or K does not
//   twin      host/cpu/attention.cpp     test  tests/test_ops_attention.cpp     chain  a tile of 64 (C > 64: 32) keys,
//   then the tiles
#include "cuda/attention.cuh"
#include "cuda/block.cuh"
#include "cuda/types.h"

namespace ptq::cuda {

namespace {

constexpr int warp_rows = 16;  // of an mma
constexpr int row_warps = attention_rows / warp_rows;

template <class T>
constexpr int parts = std::is_same_v<T, bf16> ? 3 : 2;  // halves that a weight is the sum of
template <class T>
constexpr float weight_scale = std::is_same_v<T, bf16> ? 1.0f : 0x1p15f;

// A tile of 64 rows and `keys` keys for heads of up to P elements.
template <int P>
struct Tile {
  static_assert(P % 16 == 0 && P <= attention_head_max, "mma and ldmatrix take 16 elements of a head");
  static constexpr int keys = P <= 64 ? 64 : 32;  // W in parts and O (P / 2 registers) must fit a thread's registers
  static constexpr int stride = P + 8;            // 16 bytes more: eight rows of an ldmatrix lie in different banks
  // Where O would take 128 registers, two warps share rows: both compute S, each has half of the columns of O.
  static constexpr int halves = P > 192 ? 2 : 1, columns = P / halves, threads = row_warps * halves * warp_lanes;
  // Blocks on an SM that ptxas aims at; 0: its own choice, which for these sizes is the one without spills.
  static constexpr int blocks = P > 192 ? 1 : P > 64 ? 0 : P > 32 ? 3 : 4;
  static constexpr std::size_t bytes = std::size_t{2} * (attention_rows + 2 * keys) * stride;
};

// Where a lane's row for ldmatrix_x4 begins in a 16 x 16 part: matrices 0 and 1 are its first 8 columns, 2 and 3 the
// rest.
template <int stride>
__device__ int matrix_row() {
  return lane_index() % 16 * stride + lane_index() / 16 * 8;
}

// s [16][keys] += q k^T for the warp's rows q [16][P] and k [keys][P].
template <int P, class T>
__device__ void add_scores(float (&s)[Tile<P>::keys / 8][4], const T* q, const T* k) {
  constexpr int keys = Tile<P>::keys, stride = Tile<P>::stride;
  q += matrix_row<stride>();
  k += matrix_row<stride>();
#pragma unroll
  for (int d = 0; d < P; d += 16) {
    std::uint32_t a[4];
    ldmatrix_x4(a, q + d);
#pragma unroll
    for (int n = 0; n < keys; n += 16) {
      std::uint32_t b[4];
      ldmatrix_x4(b, k + n * stride + d);
      mma_16816<T>(s[n / 8], a, {b[0], b[2]});
      mma_16816<T>(s[n / 8 + 1], a, {b[1], b[3]});
    }
  }
}

// Products to weights in place; rescale[i]: what O of the lane's row i is to be multiplied by. `first`: position of the
// tile's first key; `masked`: some row of the warp does not see all of its keys.
template <class T, int n>
__device__ void soften(float (&s)[n][4], float (&rescale)[2], SoftmaxRow (&rows)[2], const AttentionForm& form,
                       int first, bool masked) {
#pragma unroll
  for (int j = 0; j < n; ++j) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      s[j][e] = attention_score(s[j][e], form);
      if (masked && !rows[e / 2].sees(first + 8 * j + mma_c_col(lane_index(), e), form.window)) s[j][e] = -INFINITY;
    }
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float best = -INFINITY;
#pragma unroll
    for (int j = 0; j < n; ++j) best = fmaxf(best, fmaxf(s[j][2 * i], s[j][2 * i + 1]));
    best = fmaxf(best, __shfl_xor_sync(all_lanes, best, 1));  // a row lies in four lanes
    best = fmaxf(best, __shfl_xor_sync(all_lanes, best, 2));
    rescale[i] = rows[i].raise(best);
#pragma unroll
    for (int j = 0; j < n; ++j) {
#pragma unroll
      for (int e = 2 * i; e < 2 * i + 2; ++e) {
        s[j][e] = rows[i].weight(s[j][e]) * weight_scale<T>;
        rows[i].sum += s[j][e];
      }
    }
  }
}

// o [16][columns] = rescale o + w v for the warp's weights w [16][keys] and columns of v [keys][P].
template <int P, class T>
__device__ void add_values(float (&o)[Tile<P>::columns / 8][4], const float (&rescale)[2],
                           const float (&w)[Tile<P>::keys / 8][4], const T* v) {
  constexpr int keys = Tile<P>::keys, stride = Tile<P>::stride;
  // The accumulators of keys 16 j .. 16 j + 15 are, pair by pair, the registers of a left operand.
  std::uint32_t a[keys / 16][parts<T>][4];
#pragma unroll
  for (int r = 0; r < keys / 4; ++r) {
    float x = w[r / 2][r % 2 * 2], y = w[r / 2][r % 2 * 2 + 1];
#pragma unroll
    for (int i = 0; i < parts<T>; ++i) {
      const std::uint32_t pair = pack_pair<T>(x, y);
      const float2 part = unpack_pair<T>(pair);
      a[r / 4][i][r % 4] = pair;
      x -= part.x;
      y -= part.y;
    }
  }
  v += matrix_row<stride>();
#pragma unroll
  for (int d = 0; d < Tile<P>::columns; d += 16) {
    float sum[2][4] = {};
#pragma unroll
    for (int j = 0; j < keys / 16; ++j) {
      std::uint32_t b[4];
      ldmatrix_x4_transposed(b, v + 16 * j * stride + d);
#pragma unroll
      for (int i = parts<T> - 1; i >= 0; --i) {  // the smallest first
        mma_16816<T>(sum[0], a[j][i], {b[0], b[1]});
        mma_16816<T>(sum[1], a[j][i], {b[2], b[3]});
      }
    }
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      float& to = o[d / 8 + e / 4][e % 4];
      to = fmaf(rescale[e % 4 / 2], to, sum[e / 4][e % 4]);
    }
  }
}

// Writes the block's rows o / sum by way of shared memory [64][P], so that whole vectors reach memory.
template <int P, bool vectors, class T>
__device__ void store_rows(T* to, T* shared, const float (&o)[Tile<P>::columns / 8][4], const SoftmaxRow (&rows)[2],
                           const AttentionPlace& place) {
  constexpr int stride = Tile<P>::stride, size = vectors ? 8 : 1;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float sum = rows[i].sum;
    sum += __shfl_xor_sync(all_lanes, sum, 1);
    sum += __shfl_xor_sync(all_lanes, sum, 2);
    const float inverse = 1.0f / sum;
    T* row = shared + (warp_index() % row_warps * warp_rows + mma_c_row(lane_index(), 2 * i)) * stride +
             warp_index() / row_warps * Tile<P>::columns;
#pragma unroll
    for (int j = 0; j < Tile<P>::columns / 8; ++j) {
#pragma unroll
      for (int e = 2 * i; e < 2 * i + 2; ++e)
        row[8 * j + mma_c_col(lane_index(), e)] = round_to<T>(normalized(o[j][e], inverse));
    }
  }
  __syncthreads();  // all rows are complete
  const int chunks = place.form.head_dim / size;
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < place.tile.count * chunks; i += Tile<P>::threads) {
    const int row = i / chunks, d = i % chunks * size;
    T* out = to + place.query(row) + d;
    const T* in = shared + row * stride + d;
    if constexpr (vectors) {
      *reinterpret_cast<uint4*>(out) = *reinterpret_cast<const uint4*>(in);
    } else {
      *out = *in;
    }
  }
}

template <class T, int P, bool vectors>  // vectors: rows of heads lie at multiples of 16 bytes
__global__ void __launch_bounds__(Tile<P>::threads, Tile<P>::blocks) attention_kernel(
    T* __restrict__ o,        // (R, H*C)
    const T* __restrict__ q,  // (R, H*C)
    const T* __restrict__ k,  // (T, K*C)
    const T* __restrict__ v,  // (T, K*C)
    const QueryTile* tiles,   // (blocks / K), read again at the end (not __restrict__) to free registers
    AttentionForm form) {
  constexpr int keys = Tile<P>::keys, stride = Tile<P>::stride, threads = Tile<P>::threads;
  T* q_tile = dynamic_smem<T>();                 // [64][stride]
  T* k_tile = q_tile + attention_rows * stride;  // [keys][stride]
  T* v_tile = k_tile + keys * stride;            // [keys][stride]
  const AttentionPlace place(tiles, form);
  const int end = place.end();
  const auto load = [&](T* to, const T* from, int first) {
    const auto key = [&](int row) { return from + place.key(first + row); };
    load_rows<threads, keys, P, stride, vectors>(to, min(keys, end - first), form.head_dim, key);
    cp_async_commit();
  };

  const int warp_first = warp_index() % row_warps * warp_rows, column = warp_index() / row_warps * Tile<P>::columns;
  T* q_warp = q_tile + warp_first * stride;
  SoftmaxRow rows[2] = {{place, warp_first + mma_c_row(lane_index(), 0)},
                        {place, warp_first + mma_c_row(lane_index(), 2)}};
  float sum[Tile<P>::columns / 8][4] = {};

  int first = place.first(keys);
  load_rows<threads, attention_rows, P, stride, vectors>(q_tile, place.tile.count, form.head_dim,
                                                         [&](int row) { return q + place.query(row); });
  load(k_tile, k, first);
  for (; first < end; first += keys) {
    cp_async_wait<0>();
    __syncthreads();  // keys (and queries) have arrived; values of the last tile are done with
    load(v_tile, v, first);
    float s[keys / 8][4] = {}, rescale[2];
    bool some = false, all = true;
#pragma unroll
    for (const SoftmaxRow& row : rows) {
      some |= row.sees_some(first, keys, form.window);
      all &= row.sees_all(first, keys, form.window);
    }
    const bool seen = __any_sync(all_lanes, some);
    if (seen) {
      add_scores<P>(s, q_warp, k_tile);
      soften<T>(s, rescale, rows, form, first, !__all_sync(all_lanes, all));
    }
    cp_async_wait<0>();
    __syncthreads();  // values have arrived; keys are done with
    if (first + keys < end) load(k_tile, k, first + keys);
    if (seen) add_values<P>(sum, rescale, s, v_tile + column);
  }
  store_rows<P, vectors>(o, q_tile, sum, rows, AttentionPlace(tiles, form));
}

// f(std::integral_constant<int, P>) for the smallest P that holds a head.
template <class F>
void visit_head(int C, F&& f) {
  if (C <= 16) return f(std::integral_constant<int, 16>{});
  if (C <= 32) return f(std::integral_constant<int, 32>{});
  if (C <= 64) return f(std::integral_constant<int, 64>{});
  if (C <= 96) return f(std::integral_constant<int, 96>{});
  if (C <= 128) return f(std::integral_constant<int, 128>{});
  if (C <= 192) return f(std::integral_constant<int, 192>{});
  return f(std::integral_constant<int, attention_head_max>{});
}

}  // namespace

void attention(void* o, const void* q, const void* k, const void* v, DType dtype, const AttentionWork& work,
               Stream stream) {
  const AttentionForm& form = work.form;
  visit_half(dtype, [&](auto type) {
    using T = decltype(type);
    const auto run = [&]<int P, bool vectors>(std::integral_constant<int, P>, std::bool_constant<vectors>) {
      launch("attention", attention_kernel<T, P, vectors>,
             {.grid = static_cast<unsigned>(work.count * form.kv_heads),
              .block = Tile<P>::threads,
              .smem = Tile<P>::bytes,
              .stream = stream,
              .flops = work.flops,
              .bytes = work.bytes},
             static_cast<T*>(o), static_cast<const T*>(q), static_cast<const T*>(k), static_cast<const T*>(v),
             work.tiles, form);
    };
    visit_vectors<T>(
        form.head_dim, [&](auto vectors) { visit_head(form.head_dim, [&](auto P) { run(P, vectors); }); }, o, q, k, v);
  });
}

}  // namespace ptq::cuda

// Causal attention in fp32 on CUDA cores: the truth that bf16 and f16 are compared with
//   formula   as attention.cu: per key tile S = Q K^T, W = 2^(S - top), O = O 2^(old top - top) + W V, then O / sum W
//   shapes    o, q (R, H*C)   k, v (T, K*C)   tiles (n): the rows of a block
//   maps      block x ↔ (tile x / K, key/value head x % K), longest tiles first; thread (y, x) of 16 x 8 ↔ rows
//             y + 16 i and keys x + 8 j of S, elements 32 m + 4 x .. + 3 of O: a row lies in 8 neighbouring lanes
//   copies    one buffer each for K and V: V arrives while S is computed, the next K while W V is
//   cost      4 C flops per row and seen key, compute-bound
//   limits    a NaN or infinity in V reaches the earlier rows of its tile (0 times it); one in Q or K does not
//   twin      host/cpu/attention.cpp     test  tests/test_ops_attention.cpp     chain  C; 32 keys, then T/32 tiles
#include "cuda/attention.cuh"
#include "cuda/block.cuh"
#include "cuda/outer_product.cuh"

namespace ptq::cuda {

namespace {

constexpr int columns = 8, thread_rows = 4;  // threads that share a row; rows of a thread
constexpr int threads = attention_rows / thread_rows * columns, row_step = threads / columns;

// A tile of 64 rows and `keys` keys for heads of up to P elements.
template <int P>
struct Tile {
  static_assert(P % (4 * columns) == 0, "a thread has four neighbouring elements of every 32");
  static constexpr int keys = P <= 128 ? 32 : 8;  // 64 rows of queries leave little shared memory with large heads
  static constexpr int thread_keys = keys / columns;
  static constexpr int stride = P + 4;            // 16 bytes more: eight keys lie in different banks
  static constexpr int weight_stride = keys + 4;  // and so do four rows of weights
  static constexpr std::size_t bytes =
      sizeof(float) * ((attention_rows + 2 * keys) * stride + attention_rows * weight_stride);
  static_assert(bytes <= 99 * 1024, "more than a block can have on sm_89");
};

// s[i][j] = row y + 16 i of q [64][C] times key x + 8 j of k [keys][C].
template <int P>
__device__ void set_scores(float (&s)[thread_rows][Tile<P>::thread_keys], const float* q, const float* k, int C, int y,
                           int x) {
  constexpr int stride = Tile<P>::stride;
#pragma unroll
  for (auto& row : s) {
#pragma unroll
    for (float& sum : row) sum = 0.0f;
  }
  for (int d = 0; d < C; d += 4) {  // zeros from C on
    float a[thread_rows][4];
#pragma unroll
    for (int i = 0; i < thread_rows; ++i) load4(a[i], q + (y + row_step * i) * stride + d);
#pragma unroll
    for (int j = 0; j < Tile<P>::thread_keys; ++j) {
      float b[4];
      load4(b, k + (x + columns * j) * stride + d);
#pragma unroll
      for (int e = 0; e < 4; ++e) {
#pragma unroll
        for (int i = 0; i < thread_rows; ++i) s[i][j] = fmaf(a[i][e], b[e], s[i][j]);
      }
    }
  }
}

// o [i][m][e] = rescale[i] o + row y + 16 i of w [64][keys] times element 32 m + 4 x + e of v [keys][C].
template <int P>
__device__ void add_values(float (&o)[thread_rows][P / 32][4], const float (&rescale)[thread_rows], const float* w,
                           const float* v, int C, int y, int x) {
#pragma unroll
  for (int m = 0; m < P / 32; ++m) {
    if (32 * m >= C) break;
    float sum[thread_rows][4] = {};
#pragma unroll 2
    for (int key = 0; key < Tile<P>::keys; key += 4) {
      float a[thread_rows][4];
#pragma unroll
      for (int i = 0; i < thread_rows; ++i) load4(a[i], w + (y + row_step * i) * Tile<P>::weight_stride + key);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        float b[4];
        load4(b, v + (key + j) * Tile<P>::stride + 32 * m + 4 * x);
#pragma unroll
        for (int i = 0; i < thread_rows; ++i) {
#pragma unroll
          for (int e = 0; e < 4; ++e) sum[i][e] = fmaf(a[i][j], b[e], sum[i][e]);
        }
      }
    }
#pragma unroll
    for (int i = 0; i < thread_rows; ++i) {
#pragma unroll
      for (int e = 0; e < 4; ++e) o[i][m][e] = fmaf(rescale[i], o[i][m][e], sum[i][e]);
    }
  }
}

// op over the 8 lanes of a row, in all of them.
template <class Op>
__device__ float row_reduce(float x, Op op) {
#pragma unroll
  for (int step = columns / 2; step > 0; step /= 2) x = op(x, __shfl_xor_sync(all_lanes, x, step));
  return x;
}

template <int P, bool vectors>  // vectors: rows of heads lie at multiples of 16 bytes
__global__ void __launch_bounds__(threads) attention_f32_kernel(float* __restrict__ o,                // (R, H*C)
                                                                const float* __restrict__ q,          // (R, H*C)
                                                                const float* __restrict__ k,          // (T, K*C)
                                                                const float* __restrict__ v,          // (T, K*C)
                                                                const QueryTile* __restrict__ tiles,  // (blocks / K)
                                                                AttentionForm form) {
  constexpr int keys = Tile<P>::keys, thread_keys = Tile<P>::thread_keys, stride = Tile<P>::stride;
  auto* q_tile = dynamic_smem<float>();              // [64][stride]
  float* k_tile = q_tile + attention_rows * stride;  // [keys][stride]
  float* v_tile = k_tile + keys * stride;            // [keys][stride]
  float* weights = v_tile + keys * stride;           // [64][weight_stride]
  const AttentionPlace place(tiles, form);
  const int C = form.head_dim, x = static_cast<int>(threadIdx.x) % columns, y = static_cast<int>(threadIdx.x) / columns;
  const int end = place.end();
  const auto load = [&](float* to, const float* from, int first) {
    const auto key = [&](int row) { return from + place.key(first + row); };
    load_rows<threads, keys, P, stride, vectors>(to, min(keys, end - first), C, key);
    cp_async_commit();
  };
  SoftmaxRow rows[thread_rows] = {
      {place, y}, {place, y + row_step}, {place, y + 2 * row_step}, {place, y + 3 * row_step}};
  // Products to weights, which the row's lanes write to shared memory for each other.
  const auto soften = [&](float(&s)[thread_rows][thread_keys], float(&rescale)[thread_rows], int first) {
#pragma unroll
    for (int i = 0; i < thread_rows; ++i) {
      float best = -INFINITY;
#pragma unroll
      for (int j = 0; j < thread_keys; ++j) {
        const bool sees = rows[i].sees(first + x + columns * j, form.window);
        s[i][j] = sees ? attention_score(s[i][j], form) : -INFINITY;
        best = fmaxf(best, s[i][j]);
      }
      rescale[i] = rows[i].raise(row_reduce(best, [](float a, float b) { return fmaxf(a, b); }));
#pragma unroll
      for (int j = 0; j < thread_keys; ++j) {
        const float weight = rows[i].weight(s[i][j]);
        rows[i].sum += weight;
        weights[(y + row_step * i) * Tile<P>::weight_stride + x + columns * j] = weight;
      }
    }
  };

  float sum[thread_rows][P / 32][4] = {};
  int first = place.first(keys);
  load_rows<threads, attention_rows, P, stride, vectors>(q_tile, place.tile.count, C,
                                                         [&](int row) { return q + place.query(row); });
  load(k_tile, k, first);
  for (; first < end; first += keys) {
    cp_async_wait<0>();
    __syncthreads();  // keys (and queries) have arrived; values and weights of the last tile are done with
    load(v_tile, v, first);
    float s[thread_rows][thread_keys], rescale[thread_rows];
    set_scores<P>(s, q_tile, k_tile, C, y, x);
    soften(s, rescale, first);
    cp_async_wait<0>();
    __syncthreads();  // values and weights are there; keys are done with
    if (first + keys < end) load(k_tile, k, first + keys);
    add_values<P>(sum, rescale, weights, v_tile, C, y, x);
  }

#pragma unroll
  for (int i = 0; i < thread_rows; ++i) {
    const float inverse = 1.0f / row_reduce(rows[i].sum, [](float a, float b) { return a + b; });
    const int row = y + row_step * i;
    if (row >= place.tile.count) continue;
    float* to = o + place.query(row);
#pragma unroll
    for (int m = 0; m < P / 32; ++m) {
#pragma unroll
      for (int e = 0; e < 4; ++e) sum[i][m][e] = normalized(sum[i][m][e], inverse);
      const int d = 32 * m + 4 * x;
      if constexpr (vectors) {
        if (d < C)
          *reinterpret_cast<float4*>(to + d) = make_float4(sum[i][m][0], sum[i][m][1], sum[i][m][2], sum[i][m][3]);
      } else {
        for (int e = 0; e < 4 && d + e < C; ++e) to[d + e] = sum[i][m][e];
      }
    }
  }
}

template <class F>
void visit_head(int C, F&& f) {
  if (C <= 32) return f(std::integral_constant<int, 32>{});
  if (C <= 64) return f(std::integral_constant<int, 64>{});
  if (C <= 128) return f(std::integral_constant<int, 128>{});
  return f(std::integral_constant<int, attention_head_max>{});
}

}  // namespace

void attention_f32(float* o, const float* q, const float* k, const float* v, const AttentionWork& work, Stream stream) {
  const AttentionForm& form = work.form;
  const auto run = [&]<int P, bool vectors>(std::integral_constant<int, P>, std::bool_constant<vectors>) {
    launch("attention_f32", attention_f32_kernel<P, vectors>,
           {.grid = static_cast<unsigned>(work.count * form.kv_heads),
            .block = threads,
            .smem = Tile<P>::bytes,
            .stream = stream,
            .flops = work.flops,
            .bytes = work.bytes},
           o, q, k, v, work.tiles, form);
  };
  visit_vectors<float>(
      form.head_dim, [&](auto vectors) { visit_head(form.head_dim, [&](auto P) { run(P, vectors); }); }, o, q, k, v);
}

}  // namespace ptq::cuda

// Launchers of causal attention: attention.cu (bf16, f16) and attention_f32.cu.
#pragma once

#include "cuda/stream.h"
#include "host/dtype.h"

#include <cstdint>

namespace ptq::cuda {

constexpr int attention_rows = 64;       // of a QueryTile, at most
constexpr int attention_head_max = 256;  // largest head size C

// What one block works on: consecutive rows of one segment and key/value head. A row is a (token, query head) pair;
// the query heads of a token that share the key/value head are neighbours. Positions count from the start of the
// segment's prefix, or of the segment.
struct QueryTile {
  std::int32_t count;     // rows
  std::int32_t token;     // row of q and o: the first row's token
  std::int32_t head;      // and which query head of the key/value head it is
  std::int32_t position;  // of that token
  std::int32_t before;    // length of the prefix
  std::int32_t prefix;    // position p < before is token prefix + p of k and v,
  std::int32_t own;       // p >= before is token own + p

  bool operator==(const QueryTile&) const = default;
};

// AttentionSpec (host/ops.h) as the kernels take it.
struct AttentionForm {
  int kv_heads, group, head_dim;  // K, H / K, C
  int q_width, kv_width;          // H*C, K*C
  int window;                     // keys that a token sees at most
  float factor, inner;            // a weight is 2^(factor x), x = q . k or, if inner > 0, tanh(inner q . k)
};

struct AttentionWork {
  AttentionForm form;
  const QueryTile* tiles = nullptr;  // [count], on the device
  std::int64_t count = 0;
  double flops = 0, bytes = 0;  // for the profiler
};

// o, q [R, H*C], k, v [T, K*C]
void attention(void* o, const void* q, const void* k, const void* v, DType dtype, const AttentionWork& work,
               Stream stream);  // bf16, f16
void attention_f32(float* o, const float* q, const float* k, const float* v, const AttentionWork& work, Stream stream);

}  // namespace ptq::cuda

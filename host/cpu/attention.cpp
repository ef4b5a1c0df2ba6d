// Causal attention with grouped heads, sliding window, soft cap and shared prefixes (spec models.md 1.3).
//
//   o_i = sum_j softmax_j(cap(scale * q_i . k_j)) v_j,   j in the segment and its prefix, i - window < j <= i
//
// Everything is computed transposed: query rows are vector lanes, so that softmax runs across lanes without any
// horizontal reduction and keys and values are used as they are stored (tile_product.h):
//     S^T [keys][rows] = K[keys][C] Q^T[C][rows]        O^T [C][rows] += V[keys][C]^T P^T[keys][rows]
// A unit of work is one (segment, key/value head, lane group); the rows of a lane group are (position, query head)
// pairs that share the key/value head. Keys come in blocks at fixed positions of the sequence, prefix first, so a
// row's operations do not depend on how the sequence is split into segments or batches. Cost 4 H C flops per
// (query, visible key); memory: K and V once as fp32. Decoding, whose rows fit one lane group per head, reads K and V
// where they are (f32) or a block at a time.
#include "host/cpu/cpu_ops.h"
#include "host/cpu/parallel.h"
#include "host/cpu/tile_product.h"
#include "host/op_checks.h"

#include <cmath>

namespace ptq {

namespace {

using simd::lanes;
using simd::vfloat;

// Keys and queries multiply as bf16 pairs where the CPU can: the same exact products, twice the rate.
template <class T>
using Score = std::conditional_t<std::is_same_v<T, bf16> && simd::has_pairs, simd::bf16_pair, float>;

constexpr std::int64_t key_block = 96;  // S^T, K and V blocks of a lane group stay in the second-level cache
constexpr std::int64_t row_group = simd::tile_width;  // query rows worked on together

// Keys and values of one (segment, key/value head) as fp32: blocks of key_block positions, each K [key_block][C] and
// V [key_block][C]. Blocks before `first` are those of the prefix.
struct Packed {
  std::int64_t first = 0;   // number of the first block stored here
  std::int64_t length = 0;  // positions, prefix included
  std::size_t offset = 0;   // of block `first` in the arena
};

struct Problem {
  const Tensor &o, &q, &k, &v;
  std::span<const Segment> segments;
  const AttentionSpec& spec;
  std::int64_t c = 0, kc = 0, group = 0, q_width = 0, kv_width = 0;  // kc: elements of a key as Score
  std::int64_t block_floats = 0;
  std::int64_t tokens = 0, first_token = 0;  // of k and v; token of row 0 of q
  bool in_place = false;                     // no arena: each block is used once
  std::vector<Packed> packed = {};           // [segment][kv head]
  Buffer<float> arena = Buffer<float>();

  std::int64_t own(const Segment& s) const { return s.end - s.begin; }
  std::int64_t prefix_length(const Segment& s) const {
    return s.prefix < 0 ? 0 : own(segments[static_cast<std::size_t>(s.prefix)]);
  }
  // The first token of a segment that has a row, and the number of (token, query head) rows per key/value head.
  std::int64_t first(const Segment& s) const { return std::max<std::int64_t>(s.begin, first_token); }
  std::int64_t rows(const Segment& s) const { return std::max<std::int64_t>(0, s.end - first(s)) * group; }
  std::int64_t token(const Segment& s, std::int64_t position) const {
    const std::int64_t before = prefix_length(s);
    return position < before ? segments[static_cast<std::size_t>(s.prefix)].begin + position
                             : s.begin + position - before;
  }
  const Packed& at(std::int64_t segment, std::int64_t head) const {
    return packed[static_cast<std::size_t>(segment * spec.kv_heads + head)];
  }
  // Where the arena has block b of a segment.
  float* packed_block(std::int64_t segment, std::int64_t head, std::int64_t b) const {
    const Packed* from = &at(segment, head);
    if (b < from->first) from = &at(segments[static_cast<std::size_t>(segment)].prefix, head);
    return arena.data() + from->offset + static_cast<std::size_t>((b - from->first) * block_floats);
  }
};

// Decides which blocks each segment stores: all from the one in which its own positions begin.
void lay_out(Problem& p) {
  std::size_t floats = 0;
  for (const Segment& s : p.segments) {
    const std::int64_t before = p.prefix_length(s), length = before + p.own(s);
    for (int h = 0; h < p.spec.kv_heads; ++h) {
      p.packed.push_back({before / key_block, length, floats});
      floats += static_cast<std::size_t>(((length + key_block - 1) / key_block - before / key_block) * p.block_floats);
    }
  }
  if (!p.in_place) p.arena.resize(floats);
}

// One key or query as elements of a product, `stride` apart.
template <class T>
void to_scores(const T* x, float* to, std::int64_t stride, std::int64_t c) {
  for (std::int64_t d = 0; d < c; ++d) to[d * stride] = to_float(x[d]);
}
[[maybe_unused]] void to_scores(const bf16* x, simd::bf16_pair* to, std::int64_t stride, std::int64_t c) {
  if (stride == 1) {
    std::memcpy(to, x, static_cast<std::size_t>(c / 2) * sizeof *to);
  } else {
    for (std::int64_t d = 0; d + 1 < c; d += 2) to[d / 2 * stride] = {x[d], x[d + 1]};
  }
  if (c % 2 != 0) to[c / 2 * stride] = {x[c - 1], bf16{0}};
}

template <class T>
void pack_block(const Problem& p, std::int64_t segment, std::int64_t head, std::int64_t b, float* to) {
  const Segment& s = p.segments[static_cast<std::size_t>(segment)];
  const std::int64_t length = p.at(segment, head).length, c = p.c;
  for (std::int64_t j = 0; j < key_block; ++j) {
    const std::int64_t position = b * key_block + j;
    auto* k = reinterpret_cast<Score<T>*>(to) + j * p.kc;  // elements of 4 bytes either way
    float* v = to + key_block * p.kc + j * c;
    if (position >= length) {  // never seen by a row, but multiplied by a zero weight: must be finite
      std::fill(k, k + p.kc, Score<T>{});
      std::fill(v, v + c, 0.0f);
      continue;
    }
    const std::int64_t from = p.token(s, position) * p.kv_width + head * c;
    to_scores(p.k.data<T>() + from, k, 1, c);
    simd::to_floats(p.v.data<T>() + from, v, c);
  }
}

// Keys and values of a block, Score<T> and float elements; rows are key_row and value_row elements apart.
struct Block {
  const float* keys;
  std::int64_t key_row;
  const float* values;
  std::int64_t value_row;
};

// The first `count` keys of block b.
template <class T>
Block block(const Problem& p, std::int64_t segment, std::int64_t head, std::int64_t b, std::int64_t count) {
  float* to;
  if (p.in_place) {
    if constexpr (std::is_same_v<T, float>) {
      const Segment& s = p.segments[static_cast<std::size_t>(segment)];
      const std::int64_t position = b * key_block, token = p.token(s, position);
      if (p.token(s, position + count - 1) == token + count - 1) {  // not across the end of a prefix lying elsewhere
        const std::int64_t at = token * p.kv_width + head * p.c;
        return {p.k.data<float>() + at, p.kv_width, p.v.data<float>() + at, p.kv_width};
      }
    }
    to = scratch<float>(2, static_cast<std::size_t>(p.block_floats));
    pack_block<T>(p, segment, head, b, to);
  } else {
    to = p.packed_block(segment, head, b);
  }
  return {to, p.kc, to + key_block * p.kc, p.c};
}

// The rows of a lane group: row l is query position positions[l] of query head heads[l].
struct Rows {
  std::int64_t count = 0, width = 0;  // width: count rounded up to whole vectors
  std::int32_t position[row_group];
  std::int64_t offset[row_group];  // of the row in q and o
  float max[row_group];            // of q . k (after the cap if there is one), before scaling
  float sum[row_group], rescale[row_group];
};

Rows rows_of(const Problem& p, std::int64_t segment, std::int64_t head, std::int64_t first) {
  const Segment& s = p.segments[static_cast<std::size_t>(segment)];
  const std::int64_t before = p.prefix_length(s), token = p.first(s);
  Rows r;
  r.count = std::min(row_group, p.rows(s) - first);
  r.width = (r.count + lanes - 1) / lanes * lanes;
  for (std::int64_t l = 0; l < r.width; ++l) {
    const std::int64_t row = first + std::min(l, r.count - 1);  // idle lanes repeat the last row
    r.position[l] = static_cast<std::int32_t>(before + token - s.begin + row / p.group);
    r.offset[l] = (token - p.first_token + row / p.group) * p.q_width + (head * p.group + row % p.group) * p.c;
    r.max[l] = -std::numeric_limits<float>::infinity();
    r.sum[l] = 0.0f;
  }
  return r;
}

// Online softmax of V vectors of rows (s, r from row l on): turns the products q . k of `count` keys from position
// `first` on into weights e^(score - max) and updates the rows' maximum and sum; rescale is what older sums have to be
// multiplied by.
template <int V>
void soften(Rows& r, std::int64_t l, float* s, std::int64_t first, std::int64_t count, const AttentionSpec& spec) {
  const auto at = [&](std::int64_t j, int v) { return s + j * row_group + l + v * lanes; };
  vfloat scale = simd::splat(spec.scale), top[V], base[V], sum[V];
  if (spec.soft_cap > 0.0f) {
    const vfloat cap = simd::splat(spec.soft_cap);
    for (std::int64_t j = 0; j < count; ++j) {
      for (int v = 0; v < V; ++v) simd::store(at(j, v), cap * simd::tanh(simd::load(at(j, v)) * scale / cap));
    }
    scale = simd::splat(1.0f);
  }
  const bool masked =
      first + count - 1 > r.position[0] || (spec.window > 0 && first <= r.position[r.count - 1] - spec.window);
  if (masked) {
    for (int v = 0; v < V; ++v) {
      simd::vint last;
      std::memcpy(&last, r.position + l + v * lanes, sizeof last);
      const simd::vint before = last - (spec.window > 0 ? spec.window : std::numeric_limits<std::int32_t>::max());
      for (std::int64_t j = 0; j < count; ++j) {
        const simd::vint key = static_cast<std::int32_t>(first + j) - simd::vint{};
        simd::store(at(j, v), ((key <= last) & (key > before)) ? simd::load(at(j, v)) : -simd::infinity());
      }
    }
  }
  for (int v = 0; v < V; ++v) top[v] = simd::load(r.max + l + v * lanes);
  for (std::int64_t j = 0; j < count; ++j) {
    for (int v = 0; v < V; ++v) top[v] = simd::max(simd::load(at(j, v)), top[v]);
  }
  for (int v = 0; v < V; ++v) {
    base[v] = top[v] == -simd::infinity() ? vfloat{} : top[v] * scale;  // no visible key yet: weights are e^-inf = 0
    const vfloat rescale = simd::exp(simd::load(r.max + l + v * lanes) * scale - base[v]);
    sum[v] = simd::load(r.sum + l + v * lanes) * rescale;
    simd::store(r.rescale + l + v * lanes, rescale);
    simd::store(r.max + l + v * lanes, top[v]);
  }
  for (std::int64_t j = 0; j < count; ++j) {
    for (int v = 0; v < V; ++v) {
      const vfloat weight = simd::exp(simd::load(at(j, v)) * scale - base[v]);
      simd::store(at(j, v), weight);
      sum[v] += weight;
    }
  }
  for (int v = 0; v < V; ++v) simd::store(r.sum + l + v * lanes, sum[v]);
}

template <class T>
void attend(const Problem& p, std::int64_t segment, std::int64_t head, std::int64_t first_row) {
  const std::int64_t c = p.c;
  Rows r = rows_of(p, segment, head, first_row);
  float* ot = scratch<float>(0, static_cast<std::size_t>((2 * c + key_block) * row_group));
  float *s = ot + c * row_group, *part = s + key_block * row_group;
  auto* qt = scratch<Score<T>>(1, static_cast<std::size_t>(p.kc * row_group));
  for (std::int64_t l = 0; l < r.width; ++l) to_scores(p.q.data<T>() + r.offset[l], qt + l, row_group, c);
  std::fill(ot, ot + c * row_group, 0.0f);

  const std::int64_t low = r.position[0], high = r.position[r.count - 1];  // positions ascend with the lane
  const std::int64_t from = p.spec.window > 0 ? std::max<std::int64_t>(0, low - p.spec.window + 1) : 0;
  for (std::int64_t b = from / key_block; b * key_block <= high; ++b) {
    const std::int64_t first = b * key_block, count = std::min(key_block, high + 1 - first);
    const Block kv = block<T>(p, segment, head, b, count);
    const TileOperands<Score<T>, float> score{s,          row_group, reinterpret_cast<const Score<T>*>(kv.keys),
                                              kv.key_row, qt,        row_group};
    tile_product<Left::rows, Into::assign>(score, count, r.width, p.kc);
    if (r.width == row_group) {
      soften<simd::tile_vectors>(r, 0, s, first, count, p.spec);
    } else {
      for (std::int64_t l = 0; l < r.width; l += lanes) soften<1>(r, l, s, first, count, p.spec);
    }
    if (p.in_place) {  // few rows: O [rows][C], whose lanes are the elements of a value; the same operations
      const TileOperands<float, float> sum{part, c, s, row_group, kv.values, kv.value_row};
      tile_product<Left::columns, Into::assign>(sum, r.count, c, count);
      for (std::int64_t l = 0; l < r.count; ++l) {
        for (std::int64_t d = l * c; d < (l + 1) * c; ++d) ot[d] = simd::fma(r.rescale[l], ot[d], part[d]);
      }
    } else {
      const TileOperands<float, float> sum{ot, row_group, kv.values, kv.value_row, s, row_group, r.rescale};
      tile_product<Left::columns, Into::scale_add>(sum, c, r.width, count);
    }
  }
  const std::int64_t row = p.in_place ? c : 1, column = p.in_place ? 1 : row_group;
  for (std::int64_t l = 0; l < r.count; ++l) {
    T* o = p.o.data<T>() + r.offset[l];
    for (std::int64_t d = 0; d < c; ++d) o[d] = from_float<T>(ot[l * row + d * column] / r.sum[l]);
  }
}

}  // namespace

void CpuOps::attention(const Tensor& o, const Tensor& q, const Tensor& k, const Tensor& v,
                       std::span<const Segment> segments, const AttentionSpec& spec) {
  const std::int64_t c = spec.head_dim;
  const bool pairs = q.dtype() == DType::bf16 && simd::has_pairs;
  Problem p{o, q, k, v, segments, spec};
  p.c = c;
  p.kc = pairs ? (c + 1) / 2 : c;
  p.group = spec.kv_heads > 0 ? spec.heads / spec.kv_heads : 0;
  p.q_width = spec.heads * c;
  p.kv_width = spec.kv_heads * c;
  p.block_floats = (p.kc + c) * key_block;
  p.tokens = k.rows();
  p.first_token = p.tokens - q.rows();
  p.in_place = p.first_token > 0 && q.rows() * p.group <= row_group;
  op_checks::attention(o, q, k, v, segments, spec);
  lay_out(p);
  struct Unit {
    std::int64_t segment, head, index;  // block, then lane group
  };
  std::vector<Unit> blocks, groups;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const auto segment = static_cast<std::int64_t>(i);
    for (std::int64_t h = 0; h < spec.kv_heads; ++h) {
      const Packed& own = p.at(segment, h);
      for (std::int64_t b = own.first; !p.in_place && b * key_block < own.length; ++b)
        blocks.push_back({segment, h, b});
      const std::int64_t rows = p.rows(segments[i]);
      for (std::int64_t r = (rows + row_group - 1) / row_group * row_group - row_group; r >= 0;
           r -= row_group) {  // the longest first
        groups.push_back({segment, h, r});
      }
    }
  }
  simd::dispatch(q.dtype(), [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    parallel_for(threads_, static_cast<std::int64_t>(blocks.size()), [&](std::int64_t i) {
      const Unit& u = blocks[static_cast<std::size_t>(i)];
      pack_block<T>(p, u.segment, u.head, u.index, p.packed_block(u.segment, u.head, u.index));
    });
    parallel_for(threads_, static_cast<std::int64_t>(groups.size()), [&](std::int64_t i) {
      const Unit& u = groups[static_cast<std::size_t>(i)];
      attend<T>(p, u.segment, u.head, u.index);
    });
  });
}

}  // namespace ptq

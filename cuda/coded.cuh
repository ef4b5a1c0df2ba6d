// How a lane reads its codes and grids (layout: coded.h) and turns them into operands of products.
#pragma once

#include "cuda/block.cuh"
#include "cuda/coded.h"
#include "cuda/ptx.cuh"
#include "host/grid.h"

#include <type_traits>

namespace ptq::cuda {

constexpr int chunk_steps = chunk_columns / 16, strip_tiles = strip_rows / 8;
constexpr int lane_codes = chunk_steps * strip_tiles * 4;  // of a chunk

template <int bits>
constexpr int code_vectors = lane_codes* bits / 128;  // 16-byte vectors of a lane in a chunk

// --- two neighbouring elements: operands come in pairs ---------------------------------------------------------------
template <class T>
using Pair = std::conditional_t<std::is_same_v<T, float>, float2, std::uint32_t>;

template <class T>
__device__ Pair<T> to_pair(float first, float second) {
  if constexpr (std::is_same_v<T, float>) {
    return make_float2(first, second);
  } else {
    return pack_pair<T>(first, second);
  }
}

// --- codes -----------------------------------------------------------------------------------------------------------
template <int bits>
struct LaneCodes {
  uint4 vectors[code_vectors<bits>];

  // Those of all lanes: vector v of lane l at [32 v + l].
  __device__ static const uint4* at(const CodedView& w, int strip, int chunk) {
    return static_cast<const uint4*>(w.codes) + (strip * chunks_of(w.i) + chunk) * (code_vectors<bits> * warp_lanes);
  }
  template <class Load>
  __device__ void load(const uint4* from, int lane, Load load_one) {
#pragma unroll
    for (int v = 0; v < code_vectors<bits>; ++v) vectors[v] = load_one(from + v * warp_lanes + lane);
  }

  // Code e of tile t in step s, all constants after unrolling. In the mantissa of 2^(23 - shift) its lowest bit weighs
  // 1, so that a mask and a subtraction make it a float: conversions of integers have a quarter of their rate.
  __device__ float code(int s, int t, int e) const {
    const int bit = ((s * strip_tiles + t) * 4 + e) * bits, word = bit / 32, shift = bit % 16;
    const uint4& v = vectors[word / 4];
    const std::uint32_t whole = word % 4 == 0 ? v.x : word % 4 == 1 ? v.y : word % 4 == 2 ? v.z : v.w;
    const std::uint32_t half = bit % 32 < 16 ? whole : whole >> 16;
    const std::uint32_t mask = ((1u << bits) - 1u) << shift, power = static_cast<std::uint32_t>(127 + 23 - shift) << 23;
    return __uint_as_float((half & mask) | power) - __uint_as_float(power);
  }
};

// --- grids -----------------------------------------------------------------------------------------------------------
// Those of a lane's two output rows, as stored: 8 bytes of f16 or 16 of f32.
struct LaneGrids {
  uint4 bits;

  // from: the grids of one group in a strip, in global or shared memory.
  __device__ static LaneGrids load(const void* from, bool half, int lane) {
    if (!half) return {static_cast<const uint4*>(from)[lane / 4]};
    const uint2 halves = static_cast<const uint2*>(from)[lane / 4];
    return {make_uint4(halves.x, halves.y, 0, 0)};
  }
  __device__ GridPoint of(int tile, bool half) const {
    if (!half) {
      return tile == 0 ? GridPoint{__uint_as_float(bits.x), __uint_as_float(bits.y)}
                       : GridPoint{__uint_as_float(bits.z), __uint_as_float(bits.w)};
    }
    const float2 point = unpack_pair<f16>(tile == 0 ? bits.x : bits.y);
    return {point.x, point.y};
  }
};

__host__ __device__ constexpr int grid_bytes(bool half) {
  return strip_rows * (half ? 4 : 8);
}  // of a group in a strip

__device__ inline const void* grids_at(const CodedView& w, int strip, int group) {
  return static_cast<const unsigned char*>(w.grids) + (strip * w.group_count + group) * grid_bytes(w.half_grids);
}

// Grids of the 4 elements of a step in both tiles: all the same if the chunk has one group.
template <bool one_group>
struct StepGrids {
  GridPoint points[one_group ? 1 : 4][strip_tiles];
  __device__ GridPoint of(int e, int t) const { return points[one_group ? 0 : e][t]; }
};

// The grids of a lane in a chunk. One group: loaded with the codes.
template <bool one_group>
struct ChunkGrids {
  LaneGrids grids;

  __device__ void load(const CodedView& w, int strip, int chunk, int lane) {
    grids = LaneGrids::load(grids_at(w, strip, w.groups[chunk]), w.half_grids, lane);
  }
  __device__ StepGrids<true> step(const CodedView& w, int, int, int, int) const {
    return {{{grids.of(0, w.half_grids), grids.of(1, w.half_grids)}}};
  }
};

// Any column in any group (act-order): looked up when they are needed, in the L1 cache for the most part.
template <>
struct ChunkGrids<false> {
  __device__ void load(const CodedView&, int, int, int) {}
  __device__ StepGrids<false> step(const CodedView& w, int strip, int chunk, int s, int lane) const {
    StepGrids<false> result;
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int group = w.groups[chunk * chunk_columns + s * 16 + HalfMma::b_k(lane, e)];
      const LaneGrids grids = LaneGrids::load(grids_at(w, strip, group), w.half_grids, lane);
#pragma unroll
      for (int t = 0; t < strip_tiles; ++t) result.points[e][t] = grids.of(t, w.half_grids);
    }
    return result;
  }
};

// --- operands --------------------------------------------------------------------------------------------------------
// Values of step s: elements (0, 1) and (2, 3) of each tile, the two registers of an mma's b.
template <class T, int bits, bool one_group>
__device__ void dequantize(Pair<T> (&b)[strip_tiles][2], const LaneCodes<bits>& codes, int s,
                           const StepGrids<one_group>& grids) {
#pragma unroll
  for (int t = 0; t < strip_tiles; ++t) {
#pragma unroll
    for (int e = 0; e < 4; e += 2) {
      b[t][e / 2] = to_pair<T>(value_of(codes.code(s, t, e), grids.of(e, t)),
                               value_of(codes.code(s, t, e + 1), grids.of(e + 1, t)));
    }
  }
}

}  // namespace ptq::cuda

// Rotary position embedding: inverse frequencies of every scaling kind and the cos/sin tables of a packed batch.
#pragma once

#include "model/config.h"

#include <cstdint>
#include <span>
#include <vector>

namespace ptq {

// rotary_dim / 2 inverse frequencies for a sequence of `length` tokens (only dynamic and longrope depend on it),
// computed in fp32 in the order of the reference (transformers modeling_rope_utils.py; spec models.md 1.5).
std::vector<float> inverse_frequencies(const RopeSpec& spec, std::int64_t length, std::int64_t max_position);

// Do sequences of these lengths use the same frequencies?
bool same_frequencies(const RopeSpec& spec, std::int64_t length_a, std::int64_t length_b, std::int64_t max_position);

struct RopeTables {
  Tensor cos, sin;  // [T, rotary_dim / 2] f32, host
};

// Angles of every token of a packed batch: positions continue after a segment's prefix (and after `before` tokens that
// are not in the batch), and a segment's frequencies follow its total length. Values are rounded to `rounding` (the
// compute dtype; f32: not at all).
RopeTables rope_tables(const RopeSpec& spec, std::span<const Segment> segments, std::int64_t tokens,
                       std::int64_t max_position, DType rounding, std::int64_t before = 0);

// Tokens before the segment's first one: the length of its prefix.
std::int64_t first_position(std::span<const Segment> segments, const Segment& s);

}  // namespace ptq

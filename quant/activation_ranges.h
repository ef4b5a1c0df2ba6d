// The largest magnitudes of a block's activations in full precision: what SmoothQuant migrates (spec C.1) and what
// static activation quantization is fixed to (spec C.4).
#pragma once

#include "quant/walk.h"

#include <array>
#include <span>
#include <vector>

namespace ptq {

// max |x_k| over the rows of X [T,I] f32, bf16 or f16, by channel k.
std::vector<float> channel_absmax(Ops& ops, const Tensor& x);

struct BlockRanges {
  std::array<std::vector<float>, all_stages.size()> input;  // by Stage: max |x_k| over all tokens, by channel k
  std::array<float, 3> qkv{};                               // max |y| of q, k, v with bias, before rope

  std::span<const float> of(Stage stage) const { return input[static_cast<std::size_t>(stage)]; }
};

// Advances all streams through the block, which they have entered. Outputs of q, k, v are looked at only if asked for.
// Adds to seconds.forward and search. Exit 76 if an activation is not finite, naming layer and stage.
BlockRanges measure_ranges(const Transformer& model, int layer, const Block& block, std::span<Stream> streams,
                           bool with_qkv, Seconds& seconds);

FixedRanges fixed_ranges(const BlockRanges& ranges);

// Full-precision ranges of a set of windows, all blocks: SmoothQuant, static activation ranges and the search for dead
// columns start from them, so one walk serves every such method of a model and a set.
struct ModelRanges {
  std::vector<BlockRanges> blocks;  // by layer; empty: not measured
  bool with_qkv = false;

  bool serves(bool needs_qkv) const { return !blocks.empty() && (with_qkv || !needs_qkv); }
};

// All blocks in one walk. Errors of full_precision_walk.
ModelRanges measure_all_ranges(const Transformer& model, std::span<const Window> windows, bool with_qkv,
                               Seconds& seconds, const ProgressFn& progress);

}  // namespace ptq

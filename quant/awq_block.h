// AWQ on one block (spec B.2 - B.6): a scale search for each group of linears that share an input, the scales folded,
// and clipping ranges. Rounding is the caller's.
#pragma once

#include "quant/activation_ranges.h"
#include "quant/awq_search.h"
#include "quant/fold.h"
#include "quant/walk.h"

#include <array>
#include <functional>
#include <span>
#include <vector>

namespace ptq {

// One search: linears that share an input, and where 1/t went.
struct AwqGroup {
  Stage stage = Stage::qkv;
  ScaleSource source;
  std::vector<LinearRole> roles;
  ScaleStatistics statistics;
  ScaleSearch search;
  std::int64_t dead_columns = 0;
};

struct AwqBlock {
  BlockWeights weights;                                        // scales folded, linears not clamped
  std::array<Tensor, all_linear_roles.size()> clip;            // by LinearRole: [N,G] f32; empty: not clipped
  std::array<std::int64_t, all_stages.size()> dead_columns{};  // by Stage: input channels of mean magnitude 0
  std::vector<AwqGroup> groups;                                // in the order of the stages
  BlockRanges ranges;                                          // what SmoothQuant would measure, without q, k, v
};

// Called after each stage's search.
using StageProgress = std::function<void(Stage stage)>;

// Advances `streams` through the block; they must be in the state that full_precision_walk hands out. Memory: see
// observe_block. Adds to seconds.load, forward and search. Exit 76 on non-finite activations or weights, naming layer
// and linear.
AwqBlock awq_block(const Transformer& model, const QuantSpec& spec, int layer, const Block& block,
                   std::span<Stream> streams, Seconds& seconds, const StageProgress& progress = {});

// The loss of a linear whose own output is compared, as a function of the scales (spec B.3): mean squared change of the
// output over `tokens` tokens and all rows, through the Gram matrix of the inputs. W [N,I] f32 on the host, Gram [I,I]
// on the device.
std::function<double(std::span<const float> t)> linear_loss(Ops& ops, const Tensor& w, const Tensor& gram,
                                                            std::int64_t tokens, const QuantSpec& spec);

// W clamped to +-clip of each group. W [N,I] f32, clip [N,G], both on the host; W itself if clip is empty.
Tensor clamp_groups(const Tensor& w, const Tensor& clip);

}  // namespace ptq

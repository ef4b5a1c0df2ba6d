// What AWQ has to know of a block's full-precision activations (spec B.2 step 1): statistics of the input of each
// stage's linears, and inputs and outputs of the modules that the scale search runs again.
#pragma once

#include "quant/fold.h"
#include "quant/walk.h"

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace ptq {

// What is compared when the linears of a stage are searched (spec B.4).
enum class Inspected : std::uint8_t {
  none,       // not searched: no exact place for 1/t, or a parallel block's MLP, which is searched with its attention
  attention,  // the attention module with its output projection
  mlp,        // the gated MLP with its last linear
  branches,   // a parallel block: the sum of both; the residual stream cancels in differences
  linear,     // the linear alone
};

Inspected inspected(const ModelConfig& config, Stage stage);

// The clip search looks at every so many-th of T tokens: 512 to 1023 of them, or all where there are fewer (spec B.6).
inline std::int64_t clip_step(std::int64_t tokens) { return std::max<std::int64_t>(1, tokens / 512); }

// The input X [T,I] of a stage's linears.
struct StageInputs {
  std::vector<float> a;           // [I] mean |x|
  std::vector<float> absmax;      // [I] max |x|
  std::int64_t dead_columns = 0;  // channels whose a is exactly 0
  Tensor gram;                    // X^T X [I,I] f32, upper triangle; only for a linear that is searched alone
  Tensor samples;                 // every clip_step(T)-th row, [S,I] f32 on the host; only for clipping
};

// A module's input and its output in full precision, of one chunk of windows, [T,D].
struct ModuleRun {
  Tensor in, out;
};

struct BlockInputs {
  std::array<StageInputs, all_stages.size()> stage;
  std::vector<ModuleRun> attention, mlp;  // by stream; a parallel block: attention holds the sum of both branches
  std::int64_t tokens = 0;
};

// Advances `streams` through the block; they must be in the state that full_precision_walk hands out. Beyond the
// streams, memory holds the four tensors [T,D] of ModuleRun for all windows, one chunk's widest activation and the
// Gram matrices. Adds to seconds.forward and search. Exit 76 on a non-finite activation, naming layer and stage.
BlockInputs observe_block(const Transformer& model, int layer, const Block& block, std::span<Stream> streams, bool clip,
                          Seconds& seconds);

}  // namespace ptq

// The calibration walk: windows of token ids go through the model block by block, and at each stage the Hessian of the
// stage's input is handed to a quantizer that replaces the stage's linears. One block's weights and the activations of
// all windows are in memory, never the whole model.
//
// True-sequential: every stage sees inputs that the already quantized stages before it produced; because the walk
// stops between stages, this costs one forward pass. Otherwise all four stages of a block see full-precision inputs of
// that block, and a second pass through the quantized block makes the next block's inputs (spec A.7).
#pragma once

#include "model/transformer.h"
#include "quant/hessian.h"

#include <functional>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

namespace ptq {

using Window = std::vector<std::int32_t>;

// Called as work proceeds. May throw Error to stop; nothing half-written is left then.
using ProgressFn = std::function<void(const std::string& what, std::int64_t done, std::int64_t total)>;

// Wall seconds by kind of work.
struct Seconds {
  double load = 0, forward = 0, hessian = 0, factor = 0, sweep = 0, search = 0, write = 0;

  Seconds& operator+=(const Seconds& other);
  double total() const { return load + forward + hessian + factor + sweep + search + write; }
};

double steady_seconds();  // a clock for differences

// Runs `step`, waits for the device and adds the time to `sum`.
template <class Step>
auto timed(Ops& ops, double& sum, const Step& step) {
  const double start = steady_seconds();
  if constexpr (std::is_void_v<decltype(step())>) {
    step();
    ops.synchronize();
    sum += steady_seconds() - start;
  } else {
    auto result = step();
    ops.synchronize();
    sum += steady_seconds() - start;
    return result;
  }
}

// Puts the quantized linears of `stage` into `block`, all of them. `hessian` is null where the stage has the same input
// as the block's qkv stage (parallel blocks): the factor made there is to be used again.
using StageQuantizer = std::function<void(int layer, Stage stage, Hessian* hessian, Block& block)>;

// A walk that goes on where another one of the same windows was interrupted, and what it leaves for the next. What
// passes from block to block is the streams' hidden states h.
struct WalkPart {
  int first = 0;                   // layer to begin with
  std::span<const Tensor> h = {};  // [T, D] on the host, by stream, entering that layer; empty: the windows' embeddings
  // Called after each layer with the number of layers that are done, if there are more.
  std::function<void(int done, std::span<const Stream> streams)> after = {};
};

struct WalkSpec {
  bool true_sequential = true;
  std::int64_t chunk_tokens = 4096;  // tokens that go through together: memory and speed, rounding of H only
};

// Every window is one segment and counts as one sequence. Adds load, forward and hessian time to `seconds`. Exit 65: no
// windows, a token id or length that the model does not take; 76: a non-finite activation, by layer and stage.
void calibration_walk(const Transformer& model, std::span<const Window> windows, const WalkSpec& spec,
                      const StageQuantizer& quantize, Seconds& seconds, const ProgressFn& progress = {},
                      const WalkPart& part = {});

// What a visitor of the full-precision walk gets: a block entered by all chunks of windows (Stream::x is the input of
// qkv). It advances each stream itself, all four stages, with `block`; its weights may be read from `files()` again.
using BlockVisitor = std::function<void(int layer, const Block& block, std::span<Stream> streams)>;

// Every block sees full-precision activations (AWQ, SmoothQuant, activation studies). Activations of all windows and
// one block are in memory. Adds load and forward time. Errors of calibration_walk.
void full_precision_walk(const Transformer& model, std::span<const Window> windows, std::int64_t chunk_tokens,
                         const BlockVisitor& visit, Seconds& seconds, const ProgressFn& progress = {},
                         const WalkPart& part = {});

}  // namespace ptq

// What survives an interruption of a long quantization: after each layer a caller may keep what is done so far, and a
// later run goes on from there with the same bits.
#pragma once

#include "quant/quantize.h"

#include <optional>
#include <span>
#include <vector>

namespace ptq {

struct LayerState {
  int layers = 0;         // done; their results went to the sink
  std::vector<Tensor> h;  // hidden states entering the next layer, by stream, on the host
  QuantizeReport report;  // so far
};

class LayerCheckpoint {
 public:
  virtual ~LayerCheckpoint() = default;

  // The state to go on from; empty: from the start.
  virtual std::optional<LayerState> restore() = 0;
  // Called after each layer but the last, when the sink has all its results. May do nothing.
  virtual void save(int layers, std::span<const Stream> streams, Ops& ops, const QuantizeReport& report) = 0;
};

}  // namespace ptq

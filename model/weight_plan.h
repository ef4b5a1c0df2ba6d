// Do a model's weights fit on the device? Decided before they are loaded, from the headers of the files.
#pragma once

#include "host/ops.h"
#include "model/linear.h"
#include "model/weights.h"

namespace ptq {

// What is going to run at most: activations need memory beside the weights.
struct RunSize {
  std::int64_t tokens = 4096;  // of a forward pass
  std::int64_t logits = 0;     // rows of logits that exist at a time
  std::int64_t cached = 0;     // tokens of a KV cache
  double share = 1.0;          // of the memory that is left: less if another model is loaded after this one
};

// What the blocks' linears become: how they are multiplied, in which type.
struct WeightForm {
  DType compute;
  const ActivationQuant& activations;
  IntegerProducts products;
};

// Bytes of device memory, at most.
struct WeightSizes {
  std::size_t blocks = 0;     // weights of all blocks' linears
  std::size_t largest = 0;    // those of the largest block
  std::size_t others = 0;     // head, norms, biases
  std::size_t workspace = 0;  // what packing and multiplying one linear takes beside its weight
};

// A weight of this format with `groups` groups per row (u4, u8) in any backend's layout.
std::size_t most_weight_bytes(WeightFormat format, std::int64_t n, std::int64_t i, std::int64_t groups);

WeightSizes weight_sizes(const ModelFiles& files, const WeightForm& form);

// Activations, logits and cache of a run.
std::size_t run_bytes(const ModelConfig& config, DType compute, const RunSize& run);

// Must blocks be streamed, two at a time, to run in `memory` bytes? Exit 75 with the figures and the levers if even
// that does not fit.
bool must_stream(const WeightSizes& sizes, std::size_t run, const ModelConfig& config, std::size_t memory);

}  // namespace ptq

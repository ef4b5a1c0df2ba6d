// Does an exported checkpoint hold the model that it was made from? Its weights and logits beside those of another
// checkpoint: the fake checkpoint of the same run, with which it must agree up to rounding, or any other, from which
// the distance is told.
#pragma once

#include "model/transformer.h"

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

namespace ptq {

struct WeightComparison {
  std::int64_t tensors = 0;     // linears and other tensors that were compared
  double relative_error = 0.0;  // ||a - b||^2 / ||b||^2 over all linears
  double rounding_used = 0.0;   // same run: the largest |a - b| as a share of what rounding explains
  std::string worst;            // where that is
};

struct LogitComparison {
  std::int64_t positions = 0, non_finite = 0;
  double max = 0.0, rms = 0.0;             // of the difference
  double relative_rms = 0.0;               // rms / rms of the other model's logits, each position's mean taken off
  double top1_agreement = 0.0, kld = 0.0;  // mean KL(other || export), nats
};

struct VerifyReport {
  bool same_run = false;  // the other model is the fake checkpoint of the same quantization
  WeightComparison weights;
  LogitComparison logits;
  double logit_bound = 0.0;  // on relative_rms; 0: not judged
};

// Do the cards of two checkpoints describe the same run, stored packed in `exported` and fake in `other`?
bool same_run(const ModelFiles& exported, const ModelFiles& other);

// Every weight of a linear w = s (c - z) differs by the rounding of its scale, |c - z| u |s|, and of the other
// checkpoint's own type; everything else by the rounding of both types. Exit 65 if the models are not of one shape.
WeightComparison compare_weights(const ModelFiles& exported, const ModelFiles& other, bool same_run);

// Both models have all weights loaded. Exit 65 for ids that they do not know.
LogitComparison compare_logits(const Transformer& exported, const Transformer& other,
                               std::span<const std::vector<std::int32_t>> sequences);

// relative_rms that rounding scales of the type may cause through the layers: 8 u sqrt(4 layers), independent errors of
// at most u in each of the four products of a layer, and a factor of 8 for what the network amplifies.
double logit_bound(const ModelConfig& config, DType scales);

// Windows of ids drawn uniformly from the vocabulary, each behind the BOS id if there is one.
std::vector<std::vector<std::int32_t>> random_windows(const ModelConfig& config, int windows, std::int64_t length,
                                                      std::uint64_t seed);

// Exit 76, naming the tensor, if the same run does not agree: then the export is damaged or its reader wrong.
void require_consistent(const VerifyReport& report);

nlohmann::ordered_json to_json(const VerifyReport& report);

}  // namespace ptq

// How far a quantized model's predictions are from those of the model it was made of: the Kullback-Leibler divergence
// KL(p || q) = sum_v p(v) log(p(v) / q(v)) at every predicted token of the perplexity windows (spec E.1), p from the
// original model and q from the one under test, in nats. Less noisy than a difference of perplexities, because no token
// is singled out.
#pragma once

#include "eval/metrics.h"
#include "eval/perplexity.h"
#include "model/transformer.h"

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <vector>

namespace ptq {

struct Divergence {
  Metric kld;                       // mean over tokens; stderr_ over the means of windows
  double top1_agreement = 0.0;      // share of tokens where both models' most likely token is the same
  double p99 = 0.0;                 // the smallest KL that 99 % of the tokens do not exceed
  std::int64_t tokens = 0;          // predicted tokens
  std::vector<double> window_mean;  // by window
};

// Both models have all weights loaded. A few rows of logits are in memory at a time. Exit 2 and 65 as perplexity, 65 if
// the vocabularies differ, 76 naming the window if a divergence is not finite.
Divergence divergence(const Transformer& model, const Transformer& against, std::span<const std::int32_t> ids,
                      const PerplexityOptions& options);

// Rows of logits that divergence() looks at together: about 32 MiB of them.
std::int64_t divergence_rows(std::int64_t vocab);

// One row: KL(p || q) of the softmax of two rows of logits, in f64.
double kl_of_logits(std::span<const float> p, std::span<const float> q);

// {"value", "stderr", "top1_agreement", "p99", "tokens", "windows"}
nlohmann::json divergence_json(const Divergence& result);

}  // namespace ptq

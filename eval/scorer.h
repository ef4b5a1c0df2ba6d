// What evaluation needs of a model: log-probabilities of chosen tokens in a packed batch.
#pragma once

#include "host/range.h"
#include "model/transformer.h"

#include <cstdint>
#include <span>
#include <vector>

namespace ptq {

class Scorer {
 public:
  virtual ~Scorer() = default;

  // log p(target.token | everything up to and including batch.ids[target.row] in its sequence), in target order.
  virtual std::vector<double> logprobs(const Batch& batch, std::span<const Target> targets) const = 0;

  // May sequences of these lengths share a prefix? See Transformer::may_share_prefix.
  virtual bool may_share_prefix(std::int64_t length_a, std::int64_t length_b) const = 0;

  virtual std::int64_t max_position() const = 0;
};

// A model with all its weights loaded, which must outlive the scorer.
class TransformerScorer final : public Scorer {
 public:
  explicit TransformerScorer(const Transformer& model) : model_(model) {}

  std::vector<double> logprobs(const Batch& batch, std::span<const Target> targets) const override {
    const Range range(model_.ops(), "batch {}", batches_++);
    return model_.token_logprobs(model_.forward(batch), targets);
  }
  bool may_share_prefix(std::int64_t a, std::int64_t b) const override { return model_.may_share_prefix(a, b); }
  std::int64_t max_position() const override { return model_.config().max_position; }

 private:
  const Transformer& model_;
  mutable std::int64_t batches_ = 0;  // so far
};

}  // namespace ptq

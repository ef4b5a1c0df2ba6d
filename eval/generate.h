// Continuing a prompt token by token with a KV cache.
#pragma once

#include "model/tokenizer.h"
#include "model/transformer.h"

#include <cstdint>
#include <functional>
#include <random>
#include <span>
#include <string>
#include <vector>

namespace ptq {

struct GenerateOptions {
  std::int64_t tokens = 64;              // at most so many
  double temperature = 0.0;              // 0: the most likely token; else logits are divided by it and a token is drawn
  std::int64_t top_k = 0;                // > 0: draw among the k most likely
  double top_p = 1.0;                    // draw among the fewest tokens whose probabilities reach it
  std::uint64_t seed = 0;                // of the draws: same seed, same continuation
  std::vector<std::int32_t> stops = {};  // ids after which nothing follows (EOS)
};

struct Generation {
  std::vector<std::int32_t> ids;  // the continuation, with the stop token if one ended it
  std::int64_t prompt_tokens = 0;
  double prefill_seconds = 0.0;  // until the first token
  double decode_seconds = 0.0;   // all others
  std::size_t cache_bytes = 0;

  double prefill_rate() const;  // prompt tokens per second
  double decode_rate() const;   // tokens per second after the first; 0 if there are none
};

// `on_token` sees every token as soon as it is known. Exit 2 for impossible options, 65 for an empty prompt, ids
// outside the vocabulary or too long a sequence for learned positions, 76 if a logit is not finite.
Generation generate(const Transformer& model, std::span<const std::int32_t> prompt, const GenerateOptions& options,
                    const std::function<void(std::int32_t id)>& on_token = {});

// One id of a row of logits.
std::int32_t pick_token(std::span<const float> logits, const GenerateOptions& options, std::mt19937_64& random);

// Decoding speed in tokens per second, measured over `tokens` greedy steps from a prompt of one token.
double measure_decode_rate(const Transformer& model, std::int64_t tokens);

// The text of a growing sequence of ids, in pieces that never end inside a UTF-8 character, though ids may.
class TextStream {
 public:
  // `context`: ids before the first, whose text is not returned but decides about spaces.
  TextStream(const Tokenizer& tokenizer, std::span<const std::int32_t> context);

  std::string push(std::int32_t id);  // the text that is certain now
  std::string finish();               // the rest; U+FFFD where a character stayed incomplete

 private:
  std::string take();

  const Tokenizer& tokenizer_;
  std::vector<std::int32_t> ids_;        // what the next text depends on, then what has no text yet
  std::size_t shown_ = 0, pending_ = 0;  // ids whose text was returned, and ids after them
};

}  // namespace ptq

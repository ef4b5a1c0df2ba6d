// From a question's strings to token sequences, and from sequences to a packed batch: the rules of
// lm-evaluation-harness 0.4.2 (spec E.3).
#pragma once

#include "data/tasks.h"
#include "eval/scorer.h"
#include "model/tokenizer.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ptq {

// A context and its continuation as the harness splits them.
struct EncodedPair {
  std::vector<std::int32_t> context, continuation;
};

// White space at the end of the context moves to the continuation; the continuation is what encode(context +
// continuation) has beyond the length of encode(context), while the context fed is encode(context) itself. With `bos`
// (the default of harness 0.4.9.2) the tokenizer's prefix stands before the context. An empty context becomes EOS (with
// `bos`: the prefix, else EOS). Exit 65 naming `origin` if the continuation has no token of its own.
EncodedPair encode_pair(const Tokenizer& tokenizer, std::string_view context, std::string_view continuation, bool bos,
                        const std::string& origin);

// One choice, ready to run: position i of `input` predicts token i + 1 of (input + its last token); the last
// continuation.size() positions predict the continuation.
struct Request {
  std::vector<std::int32_t> input;
  std::vector<std::int32_t> continuation;
  std::int64_t n_ctx = 0;  // tokens of the context before truncation
};

// input = (context + continuation)[-(max_length + 1):][:-1]. Exit 65 if the continuation alone is longer than
// max_length.
Request make_request(EncodedPair pair, std::int64_t max_length, const std::string& origin);

// Tokens that all inputs have in common at the start, as far as the model may compute them once: 0 for a single request
// or where a token's result depends on what follows it (Scorer::may_share_prefix).
std::int64_t shared_prefix(const Scorer& model, const std::vector<Request>& requests);

// Appends one question's requests, their first `shared` tokens once as a segment that the others continue. Targets are
// appended request by request, one per continuation token.
void append_requests(Batch& batch, std::vector<Target>& targets, const std::vector<Request>& requests,
                     std::int64_t shared);

}  // namespace ptq

#include "eval/requests.h"

#include "data/python_text.h"
#include "host/error.h"

#include <algorithm>
#include <span>

namespace ptq {

namespace {

using Ids = std::vector<std::int32_t>;

std::int64_t length(const Ids& ids) { return static_cast<std::int64_t>(ids.size()); }

// The harness adds no second BOS to a text that spells one out.
Ids with_prefix(const Ids& prefix, const Ids& ids) {
  if (prefix.size() <= ids.size() && std::equal(prefix.begin(), prefix.end(), ids.begin())) return ids;
  Ids all = prefix;
  all.insert(all.end(), ids.begin(), ids.end());
  return all;
}

}  // namespace

EncodedPair encode_pair(const Tokenizer& tokenizer, std::string_view context, std::string_view continuation, bool bos,
                        const std::string& origin) {
  const std::string text = std::string(context).append(continuation);
  const std::string_view trimmed = python_rstrip(context);
  const Ids prefix = bos ? tokenizer.prefix() : Ids{};
  const Ids whole = tokenizer.encode(text);
  const Ids head = trimmed.empty() ? Ids{} : tokenizer.encode(trimmed);
  require(whole.size() > head.size(), Exit::data,
          "{}: the continuation has no token of its own after its context; give it more than white space", origin);
  EncodedPair pair;
  pair.context = with_prefix(prefix, head);
  pair.continuation.assign(whole.begin() + length(head), whole.end());
  if (pair.context.empty()) {
    require(tokenizer.eos() >= 0, Exit::data, "{}: empty context, and the tokenizer has no EOS to stand for it",
            origin);
    pair.context = {tokenizer.eos()};
  }
  return pair;
}

Request make_request(EncodedPair pair, std::int64_t max_length, const std::string& origin) {
  require(length(pair.continuation) <= max_length, Exit::data,
          "{}: the continuation has {} tokens, more than the model's {}", origin, length(pair.continuation),
          max_length);
  Request request;
  request.n_ctx = length(pair.context);
  request.input = std::move(pair.context);
  request.input.insert(request.input.end(), pair.continuation.begin(), pair.continuation.end() - 1);
  if (length(request.input) > max_length) request.input.erase(request.input.begin(), request.input.end() - max_length);
  request.continuation = std::move(pair.continuation);
  return request;
}

std::int64_t shared_prefix(const Scorer& model, const std::vector<Request>& requests) {
  if (requests.size() < 2) return 0;
  const Ids& first = requests[0].input;
  auto shared = length(first);
  for (const Request& r : requests) {
    const auto end = std::mismatch(first.begin(), first.begin() + shared, r.input.begin(), r.input.end()).first;
    shared = end - first.begin();
  }
  for (const Request& r : requests) {
    if (shared > 0 && !model.may_share_prefix(shared, length(r.input))) return 0;
  }
  return shared;
}

void append_requests(Batch& batch, std::vector<Target>& targets, const std::vector<Request>& requests,
                     std::int64_t shared) {
  int prefix = -1;
  const auto prefix_begin = batch.tokens();
  if (shared > 0) prefix = batch.append(std::span(requests[0].input).first(static_cast<std::size_t>(shared)));
  for (const Request& r : requests) {
    const auto own_begin = batch.tokens();
    if (length(r.input) > shared) batch.append(std::span(r.input).subspan(static_cast<std::size_t>(shared)), prefix);
    const std::int64_t first = length(r.input) - length(r.continuation);  // position that predicts continuation[0]
    for (std::int64_t i = 0; i < length(r.continuation); ++i) {
      const std::int64_t position = first + i;
      const std::int64_t row = position < shared ? prefix_begin + position : own_begin + position - shared;
      targets.push_back({static_cast<std::int32_t>(row), r.continuation[static_cast<std::size_t>(i)]});
    }
  }
}

}  // namespace ptq

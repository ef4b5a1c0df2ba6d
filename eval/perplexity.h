// Perplexity in the GPTQ style (spec E.1): the text is tokenized once, cut into windows without overlap, every window
// is an independent sequence whose first token is not scored, and the value is exp(mean over windows of mean NLL). The
// tail that fills no window is dropped.
#pragma once

#include "eval/metrics.h"
#include "eval/scorer.h"
#include "model/tokenizer.h"

#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ptq {

struct PerplexityOptions {
  std::int64_t seqlen = 2048;        // tokens of a window
  std::int64_t windows = -1;         // at most so many, from the start; -1: all
  std::int64_t batch_tokens = 4096;  // tokens of one forward pass; results do not depend on it
  ProgressCallback progress = {};    // in windows
};

struct Perplexity {
  // stderr_ is ppl * (standard error of the mean window NLL): first order (delta method) over n windows.
  Metric ppl;
  std::vector<double> window_nll;  // mean NLL of each window, natural logarithm
  std::int64_t tokens = 0;         // ids of the whole text
  std::int64_t seqlen = 0;
  std::string ids_sha256;  // of the whole text's ids
};

// The ids of a text: what the tokenizer puts in front by itself (BOS), once, then the text.
std::vector<std::int32_t> text_ids(const Tokenizer& tokenizer, std::string_view text);

// The text's windows of `seqlen` tokens, the first `windows` of them (-1: all). Exit 2 for impossible options, 65 if
// the text is shorter than one window.
std::vector<std::span<const std::int32_t>> cut_windows(std::span<const std::int32_t> ids, std::int64_t seqlen,
                                                       std::int64_t windows);

// Calls run(first, last) for windows [first, last) that fit into a forward pass of batch_tokens, at least one at a
// time.
void for_each_batch(std::int64_t windows, std::int64_t seqlen, std::int64_t batch_tokens,
                    const std::function<void(std::int64_t first, std::int64_t last)>& run);

// Exit 2 for impossible options, 65 if the text is shorter than one window, 76 naming the window if an NLL is not
// finite.
Perplexity perplexity(const Scorer& model, std::span<const std::int32_t> ids, const PerplexityOptions& options);

// {"value", "stderr", "windows", "tokens", "seqlen", "ids_sha256", "window_nll"}
nlohmann::json perplexity_json(const Perplexity& result);

}  // namespace ptq

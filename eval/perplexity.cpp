#include "eval/perplexity.h"

#include "data/ids.h"
#include "host/error.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace ptq {

namespace {

constexpr std::int64_t longest_window = std::int64_t{1} << 24;

// Mean NLL of each window, all in one packed batch.
std::vector<double> score_windows(const Scorer& model, const std::vector<std::span<const std::int32_t>>& windows) {
  Batch batch;
  std::vector<Target> targets;
  for (const auto& window : windows) {
    const auto begin = static_cast<std::int32_t>(batch.tokens());
    batch.append(window);
    for (std::size_t i = 0; i + 1 < window.size(); ++i)
      targets.push_back({begin + static_cast<std::int32_t>(i), window[i + 1]});
  }
  const std::vector<double> logprobs = model.logprobs(batch, targets);
  std::vector<double> nll;
  auto at = logprobs.begin();
  for (const auto& window : windows) {
    const auto scored = static_cast<std::ptrdiff_t>(window.size()) - 1;
    double sum = 0.0;
    for (const auto end = at + scored; at != end; ++at) sum -= *at;
    nll.push_back(sum / static_cast<double>(scored));
  }
  return nll;
}

}  // namespace

std::vector<std::int32_t> text_ids(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<std::int32_t> ids = tokenizer.prefix();
  const std::vector<std::int32_t> content = tokenizer.encode(text);
  ids.insert(ids.end(), content.begin(), content.end());
  return ids;
}

std::vector<std::span<const std::int32_t>> cut_windows(std::span<const std::int32_t> ids, std::int64_t seqlen,
                                                       std::int64_t windows) {
  require(seqlen >= 2 && seqlen <= longest_window, Exit::usage, "--seqlen must be 2 to {}, not {}", longest_window,
          seqlen);
  require(windows != 0, Exit::usage, "--windows must be at least 1");
  const auto tokens = static_cast<std::int64_t>(ids.size());
  require(tokens >= seqlen, Exit::data,
          "the text has {} tokens, fewer than one window of {}; use a longer text or a shorter --seqlen", tokens,
          seqlen);
  std::int64_t count = tokens / seqlen;
  if (windows > 0) count = std::min(count, windows);
  std::vector<std::span<const std::int32_t>> out;
  for (std::int64_t w = 0; w < count; ++w)
    out.push_back(ids.subspan(static_cast<std::size_t>(w * seqlen), static_cast<std::size_t>(seqlen)));
  return out;
}

void for_each_batch(std::int64_t windows, std::int64_t seqlen, std::int64_t batch_tokens,
                    const std::function<void(std::int64_t first, std::int64_t last)>& run) {
  const std::int64_t per_batch = std::max<std::int64_t>(1, std::min(batch_tokens, longest_window) / seqlen);
  for (std::int64_t first = 0; first < windows; first += per_batch) run(first, std::min(windows, first + per_batch));
}

Perplexity perplexity(const Scorer& model, std::span<const std::int32_t> ids, const PerplexityOptions& options) {
  const auto windows = cut_windows(ids, options.seqlen, options.windows);
  const auto count = static_cast<std::int64_t>(windows.size());
  Perplexity result;
  result.tokens = static_cast<std::int64_t>(ids.size());
  result.seqlen = options.seqlen;
  result.ids_sha256 = ids_sha256(ids);
  for_each_batch(count, options.seqlen, options.batch_tokens, [&](std::int64_t first, std::int64_t last) {
    for (double nll : score_windows(model, {windows.begin() + first, windows.begin() + last})) {
      require(std::isfinite(nll), Exit::numerics, "perplexity: the NLL of window {} is {}", result.window_nll.size(),
              nll);
      result.window_nll.push_back(nll);
    }
    if (options.progress) options.progress(last, count);
  });
  const Metric nll = mean_stderr(result.window_nll);
  result.ppl = {std::exp(nll.value), std::exp(nll.value) * nll.stderr_, nll.n};
  return result;
}

nlohmann::json perplexity_json(const Perplexity& result) {
  nlohmann::json json = metric_json(result.ppl);
  json["windows"] = result.ppl.n;
  json["tokens"] = result.tokens;
  json["seqlen"] = result.seqlen;
  json["ids_sha256"] = result.ids_sha256;
  json["window_nll"] = result.window_nll;
  return json;
}

}  // namespace ptq

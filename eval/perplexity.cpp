#include "eval/perplexity.h"

#include "data/ids.h"
#include "host/error.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace ptq {

namespace {

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

Perplexity perplexity(const Scorer& model, std::span<const std::int32_t> ids, const PerplexityOptions& options) {
  const std::int64_t seqlen = options.seqlen;
  constexpr std::int64_t longest = std::int64_t{1} << 24;
  require(seqlen >= 2 && seqlen <= longest, Exit::usage, "--seqlen must be 2 to {}, not {}", longest, seqlen);
  require(options.windows != 0, Exit::usage, "--windows must be at least 1");
  const auto tokens = static_cast<std::int64_t>(ids.size());
  require(tokens >= seqlen, Exit::data,
          "the text has {} tokens, fewer than one window of {}; use a longer text or a shorter --seqlen", tokens,
          seqlen);
  std::int64_t count = tokens / seqlen;
  if (options.windows > 0) count = std::min(count, options.windows);

  Perplexity result;
  result.tokens = tokens;
  result.seqlen = seqlen;
  result.ids_sha256 = ids_sha256(ids);
  const std::int64_t per_batch = std::max<std::int64_t>(1, std::min(options.batch_tokens, longest) / seqlen);
  for (std::int64_t first = 0; first < count; first += per_batch) {
    const std::int64_t last = std::min(count, first + per_batch);
    std::vector<std::span<const std::int32_t>> windows;
    for (std::int64_t w = first; w < last; ++w)
      windows.push_back(ids.subspan(static_cast<std::size_t>(w * seqlen), static_cast<std::size_t>(seqlen)));
    for (double nll : score_windows(model, windows)) {
      require(std::isfinite(nll), Exit::numerics, "perplexity: the NLL of window {} is {}", result.window_nll.size(),
              nll);
      result.window_nll.push_back(nll);
    }
    if (options.progress) options.progress(last, count);
  }
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

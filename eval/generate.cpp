#include "eval/generate.h"

#include "host/range.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

namespace ptq {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

void check_options(const GenerateOptions& o) {
  require(o.tokens >= 1, Exit::usage, "--tokens must be at least 1, not {}", o.tokens);
  require(std::isfinite(o.temperature) && o.temperature >= 0, Exit::usage, "--temperature must be 0 or more, not {}",
          o.temperature);
  require(o.top_k >= 0, Exit::usage, "--top-k must be 0 (all) or more, not {}", o.top_k);
  require(o.top_p > 0 && o.top_p <= 1, Exit::usage, "--top-p must be above 0 and at most 1, not {}", o.top_p);
}

}  // namespace

double Generation::prefill_rate() const { return static_cast<double>(prompt_tokens) / prefill_seconds; }

double Generation::decode_rate() const {
  return ids.size() < 2 ? 0.0 : static_cast<double>(ids.size() - 1) / decode_seconds;
}

std::int32_t pick_token(std::span<const float> logits, const GenerateOptions& o, std::mt19937_64& random) {
  const auto best = std::max_element(logits.begin(), logits.end());
  if (o.temperature <= 0.0) return static_cast<std::int32_t>(best - logits.begin());

  std::vector<std::int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto logit = [&](std::int32_t id) { return logits[static_cast<std::size_t>(id)]; };
  const auto likelier = [&](std::int32_t a, std::int32_t b) {
    return logit(a) != logit(b) ? logit(a) > logit(b) : a < b;
  };
  std::size_t kept = order.size();
  if (o.top_k > 0) kept = static_cast<std::size_t>(std::min<std::int64_t>(o.top_k, static_cast<std::int64_t>(kept)));
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(kept), order.end(), likelier);
  order.resize(kept);

  std::vector<double> weight;
  for (std::int32_t id : order) weight.push_back(std::exp((static_cast<double>(logit(id)) - *best) / o.temperature));
  const double total = std::accumulate(weight.begin(), weight.end(), 0.0);
  double mass = 0.0;  // of the most likely ones
  for (std::size_t i = 0; i < kept; ++i) {
    mass += weight[i];
    if (mass >= o.top_p * total) kept = i + 1;
  }
  double at = static_cast<double>(random() >> 11) * 0x1p-53 * mass;  // 53 random bits, uniform in [0, mass)
  for (std::size_t i = 0; i + 1 < kept; ++i) {
    if (at < weight[i]) return order[i];
    at -= weight[i];
  }
  return order[kept - 1];
}

Generation generate(const Transformer& model, std::span<const std::int32_t> prompt, const GenerateOptions& options,
                    const std::function<void(std::int32_t id)>& on_token) {
  check_options(options);
  require(!prompt.empty(), Exit::data, "generate: the prompt has no tokens");
  const std::int64_t capacity = static_cast<std::int64_t>(prompt.size()) + options.tokens - 1;
  require(model.config().position != PositionKind::learned || capacity <= model.config().max_position, Exit::data,
          "generate: {} tokens after a prompt of {} exceed the model's {} positions; use fewer --tokens",
          options.tokens, prompt.size(), model.config().max_position);
  std::mt19937_64 random(options.seed);
  Generation result;
  result.prompt_tokens = static_cast<std::int64_t>(prompt.size());
  KvCache cache = model.make_cache(capacity);
  result.cache_bytes = cache.bytes();

  const auto next = [&](std::span<const std::int32_t> ids) {
    const Range range(model.ops(), "token {}", result.ids.size());
    const Tensor h = model.forward_cached(ids, cache);
    const Tensor logits = model.decode_logits(h.slice_rows(h.rows() - 1, h.rows()));
    const auto finite = [](float x) { return std::isfinite(x); };
    require(std::all_of(logits.data<float>(), logits.data<float>() + logits.numel(), finite), Exit::numerics,
            "generate: a logit after {} tokens is not finite", cache.length());
    const std::int32_t id = pick_token(logits.span<float>(), options, random);
    result.ids.push_back(id);
    return id;
  };
  auto start = Clock::now();
  std::int32_t id = next(prompt);
  result.prefill_seconds = seconds_since(start);
  for (;;) {
    if (on_token) on_token(id);
    const bool stop = std::find(options.stops.begin(), options.stops.end(), id) != options.stops.end();
    if (stop || static_cast<std::int64_t>(result.ids.size()) == options.tokens) return result;
    start = Clock::now();
    id = next({&id, 1});
    result.decode_seconds += seconds_since(start);
  }
}

double measure_decode_rate(const Transformer& model, std::int64_t tokens) {
  const std::int32_t first = std::max<std::int32_t>(model.config().bos, 0);
  GenerateOptions options;
  options.tokens = std::min(tokens + 1, model.config().max_position);
  return generate(model, {&first, 1}, options).decode_rate();
}

TextStream::TextStream(const Tokenizer& tokenizer, std::span<const std::int32_t> context)
    : tokenizer_(tokenizer), ids_(context.begin(), context.end()), shown_(context.size()) {}

std::string TextStream::push(std::int32_t id) {
  ids_.push_back(id);
  ++pending_;
  constexpr std::size_t most_pending =
      16;  // a character has at most 4 bytes: longer waits are for bytes of no character
  const std::string all = tokenizer_.decode(ids_);
  return all.ends_with("\uFFFD") && pending_ < most_pending ? std::string() : take();
}

std::string TextStream::finish() { return pending_ > 0 ? take() : std::string(); }

// What the text of all ids has beyond that of the ids shown before. Of the latter only the last ones are kept: they
// decide about spaces.
std::string TextStream::take() {
  const std::string before = tokenizer_.decode(std::span(ids_).first(shown_));
  const std::string all = tokenizer_.decode(ids_);
  ids_.erase(ids_.begin(), ids_.begin() + static_cast<std::ptrdiff_t>(shown_));
  shown_ = pending_;
  pending_ = 0;
  auto at = std::mismatch(before.begin(), before.end(), all.begin(), all.end()).second - all.begin();
  const auto inside = [&](std::ptrdiff_t i) {  // of a character
    return i < std::ssize(all) && (static_cast<unsigned char>(all[static_cast<std::size_t>(i)]) & 0xC0) == 0x80;
  };
  while (at > 0 && inside(at)) --at;
  return all.substr(static_cast<std::size_t>(at));
}

}  // namespace ptq

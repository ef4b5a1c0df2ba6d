#include "eval/multiple_choice.h"

#include "eval/requests.h"
#include "host/error.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace ptq {

namespace {

std::string origin_of(const Task& task, const ChoiceDocument& document, std::size_t choice) {
  return fmt::format("{} document {} choice {}", task.name, document.id, choice);
}

std::vector<Request> requests_of(const Task& task, const ChoiceDocument& document, const Tokenizer& tokenizer, bool bos,
                                 std::int64_t max_length) {
  std::vector<Request> requests;
  for (std::size_t i = 0; i < document.contexts.size(); ++i) {
    const std::string origin = origin_of(task, document, i);
    requests.push_back(make_request(
        encode_pair(tokenizer, document.contexts[i], document.continuations[i], bos, origin), max_length, origin));
  }
  return requests;
}

// The first index of the largest value.
int argmax(const std::vector<double>& values) {
  return static_cast<int>(std::max_element(values.begin(), values.end()) - values.begin());
}

// Questions collected for one forward pass.
class Pack {
 public:
  explicit Pack(const Scorer& model) : model_(model) {}

  std::int64_t tokens() const { return batch_.tokens(); }

  void add(const std::vector<Request>& requests, std::int64_t shared, ChoiceItem& item) {
    append_requests(batch_, targets_, requests, shared);
    for (const Request& r : requests) {
      item.n_ctx.push_back(r.n_ctx);
      item.n_cont.push_back(static_cast<std::int64_t>(r.continuation.size()));
    }
  }

  // Sums the continuations' log-probabilities into the items that were added since the last run, in order.
  void run(std::span<ChoiceItem> items) {
    if (batch_.ids.empty()) return;
    const std::vector<double> logprobs = model_.logprobs(batch_, targets_);
    auto at = logprobs.begin();
    for (ChoiceItem& item : items) {
      for (const std::int64_t count : item.n_cont) {
        double sum = 0.0;
        for (const auto end = at + count; at != end; ++at) sum += *at;
        item.ll.push_back(sum);
      }
    }
    batch_ = {};
    targets_.clear();
  }

 private:
  const Scorer& model_;
  Batch batch_;
  std::vector<Target> targets_;
};

std::int64_t tokens_of(const std::vector<Request>& requests, std::int64_t shared) {
  std::int64_t tokens = shared;
  for (const Request& r : requests) tokens += static_cast<std::int64_t>(r.input.size()) - shared;
  return tokens;
}

void judge(ChoiceItem& item, const Task& task, const ChoiceDocument& document) {
  std::vector<double> per_char;
  for (std::size_t i = 0; i < item.ll.size(); ++i) {
    require(std::isfinite(item.ll[i]), Exit::numerics, "{}: the log-likelihood is {}", origin_of(task, document, i),
            item.ll[i]);
    per_char.push_back(item.ll[i] / static_cast<double>(item.chars[i]));
  }
  item.pred = argmax(item.ll);
  item.pred_norm = argmax(per_char);
}

Metric accuracy(const std::vector<ChoiceItem>& items, int ChoiceItem::*prediction) {
  std::vector<double> scores;
  for (const ChoiceItem& item : items) scores.push_back(item.*prediction == item.gold ? 1.0 : 0.0);
  return mean_stderr(scores);
}

}  // namespace

EncodedTask encode_task(const Task& task, const Tokenizer& tokenizer, const ChoiceOptions& options) {
  check(options.max_length > 0, "the longest input is not known");
  EncodedTask encoded;
  for (const ChoiceDocument& document : task.documents)
    encoded.push_back(requests_of(task, document, tokenizer, options.bos, options.max_length));
  return encoded;
}

ChoiceResult multiple_choice(const Scorer& model, const Tokenizer& tokenizer, const Task& task,
                             const ChoiceOptions& options) {
  ChoiceOptions known = options;
  if (known.max_length <= 0) known.max_length = model.max_position();
  return multiple_choice(model, task, encode_task(task, tokenizer, known), known);
}

ChoiceResult multiple_choice(const Scorer& model, const Task& task, const EncodedTask& encoded,
                             const ChoiceOptions& options) {
  check(encoded.size() == task.documents.size(), "{} encoded documents of {}", encoded.size(), task.documents.size());
  const auto total = static_cast<std::int64_t>(task.documents.size());
  ChoiceResult result;
  result.task = task.name;
  result.normalized = task.normalized;
  result.items.resize(task.documents.size());
  const std::span<ChoiceItem> items(result.items);
  Pack pack(model);
  std::size_t first = 0;  // of the documents in the pack
  const auto flush = [&](std::size_t end) {
    result.tokens_run += pack.tokens();
    pack.run(items.subspan(first, end - first));
    for (; first < end; ++first) judge(items[first], task, task.documents[first]);
    if (options.progress) options.progress(static_cast<std::int64_t>(end), total);
  };
  for (std::size_t i = 0; i < task.documents.size(); ++i) {
    const ChoiceDocument& document = task.documents[i];
    const std::vector<Request>& requests = encoded[i];
    const std::int64_t shared = shared_prefix(model, requests);
    if (pack.tokens() > 0 && pack.tokens() + tokens_of(requests, shared) > options.batch_tokens) flush(i);
    items[i].doc_id = document.id;
    items[i].chars = document.chars;
    items[i].gold = document.gold;
    pack.add(requests, shared, items[i]);
  }
  flush(task.documents.size());
  result.acc = accuracy(result.items, &ChoiceItem::pred);
  if (task.normalized) result.acc_norm = accuracy(result.items, &ChoiceItem::pred_norm);
  return result;
}

nlohmann::json choice_json(const ChoiceResult& result) {
  nlohmann::json json = {{"n", result.acc.n}, {"acc", metric_json(result.acc)}};
  if (result.normalized) json["acc_norm"] = metric_json(result.acc_norm);
  return json;
}

std::string items_jsonl(const ChoiceResult& result) {
  std::string lines;
  for (const ChoiceItem& item : result.items) {
    nlohmann::ordered_json json = {{"task", result.task},
                                   {"doc_id", item.doc_id},
                                   {"ll", item.ll},
                                   {"n_ctx", item.n_ctx},
                                   {"n_cont", item.n_cont}};
    if (result.normalized) json["chars"] = item.chars;
    json["pred"] = item.pred;
    if (result.normalized) json["pred_norm"] = item.pred_norm;
    json["gold"] = item.gold;
    json["acc"] = item.pred == item.gold ? 1 : 0;
    if (result.normalized) json["acc_norm"] = item.pred_norm == item.gold ? 1 : 0;
    lines += json.dump() + "\n";
  }
  return lines;
}

}  // namespace ptq

// Multiple-choice accuracy with the semantics of lm-evaluation-harness 0.4.2 (spec E.3): a choice's score is the sum of
// the log-probabilities of its continuation; acc takes the largest, acc_norm the largest per code point of the choice's
// text, ties go to the first. A question's requests share the computation of their longest common token prefix, the LM
// head runs only where a continuation token is predicted, and questions are packed without padding.
#pragma once

#include "data/tasks.h"
#include "eval/metrics.h"
#include "eval/requests.h"
#include "eval/scorer.h"
#include "model/tokenizer.h"

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace ptq {

struct ChoiceOptions {
  bool bos = false;                  // put the tokenizer's prefix before every context, as harness 0.4.9.2 does
  std::int64_t max_length = 0;       // longest input; 0: the model's positions
  std::int64_t batch_tokens = 4096;  // tokens of one forward pass; results do not depend on it
  ProgressCallback progress = {};    // in documents
};

// One document's outcome; one entry per choice.
struct ChoiceItem {
  std::int64_t doc_id = 0;
  std::vector<double> ll;
  std::vector<std::int64_t> n_ctx, n_cont, chars;
  int pred = 0, pred_norm = 0, gold = 0;
};

struct ChoiceResult {
  std::string task;
  bool normalized = true;
  std::vector<ChoiceItem> items;  // in document order
  Metric acc, acc_norm;           // acc_norm only if normalized
  std::int64_t tokens_run = 0;    // tokens that went through the model
};

// A task's documents as token sequences, one request per choice: the same for every model with this tokenizer and
// longest input.
using EncodedTask = std::vector<std::vector<Request>>;

// Of the options, bos and max_length (not 0) count. Exit 65 for a choice that cannot be scored.
EncodedTask encode_task(const Task& task, const Tokenizer& tokenizer, const ChoiceOptions& options);

// `encoded`: of the same task. Exit 76 naming task, document and choice for a score that is not finite.
ChoiceResult multiple_choice(const Scorer& model, const Task& task, const EncodedTask& encoded,
                             const ChoiceOptions& options);

// Both. Exit 65, 76.
ChoiceResult multiple_choice(const Scorer& model, const Tokenizer& tokenizer, const Task& task,
                             const ChoiceOptions& options);

// {"n", "acc": {"value", "stderr"}, "acc_norm": {...}}
nlohmann::json choice_json(const ChoiceResult& result);

// JSON Lines, a document a line: task doc_id ll n_ctx n_cont chars pred pred_norm gold acc acc_norm (without chars and
// the norms for tasks that have none).
std::string items_jsonl(const ChoiceResult& result);

}  // namespace ptq

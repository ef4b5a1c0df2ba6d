// The metrics of a grid, ready to be measured on any number of models with the same tokenizer: texts and tasks are read
// and tokenized once.
#pragma once

#include "data/corpora.h"
#include "eval/grid.h"
#include "eval/multiple_choice.h"
#include "eval/perplexity.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <variant>
#include <vector>

namespace ptq {

// Where the files that a grid names are looked for.
struct GridPaths {
  std::filesystem::path models, data;  // may be empty
  std::filesystem::path grid;          // the grid's own directory

  // A file or directory named by a set or a metric: below `data`, else beside the grid, else the name itself.
  std::string data_path(const std::string& name) const;
  // Below `models`, else beside the grid; else the name itself, which may be an id of the Hugging Face cache.
  std::string model_path(const std::string& name) const;
};

// The input of a metric as its publisher ships it.
struct MetricSource {
  std::variant<Text, Task> content;
  std::string sha256;  // of the text, or of the names and digests of the task's files
};

// Exit 66 missing, 65 malformed.
MetricSource read_metric_source(const GridMetric& metric, const GridPaths& paths);

struct MetricInput {
  const GridMetric* metric = nullptr;
  const MetricSource* source = nullptr;
  std::vector<std::int32_t> ids;  // perplexity
  EncodedTask encoded;            // multiple choice
};

// `positions`: the longest input of the model. Both arguments must outlive the result. Exit 65.
MetricInput prepare(const GridMetric& metric, const MetricSource& source, const Tokenizer& tokenizer,
                    std::int64_t positions);

// perplexity_json, or choice_json with "correct" (and "correct_norm"): a string with 1 or 0 for every document. Exit 65
// for a text shorter than a window, 76 for a score that is not finite.
nlohmann::json measure(const Transformer& model, const MetricInput& input, std::int64_t batch_tokens,
                       const ProgressCallback& progress);

}  // namespace ptq

#include "eval/measurement.h"

#include "eval/cell.h"
#include "host/error.h"
#include "host/files.h"

namespace ptq {

namespace fs = std::filesystem;
using Json = nlohmann::json;

namespace {

std::string outcomes(const ChoiceResult& result, int ChoiceItem::*prediction) {
  std::string bits;
  for (const ChoiceItem& item : result.items) bits += item.*prediction == item.gold ? '1' : '0';
  return bits;
}

std::string first_present(std::initializer_list<fs::path> directories, const std::string& name) {
  for (const fs::path& directory : directories) {
    if (!directory.empty() && present(directory / name)) return (directory / name).string();
  }
  return name;
}

}  // namespace

std::string GridPaths::data_path(const std::string& name) const { return first_present({data, grid}, name); }
std::string GridPaths::model_path(const std::string& name) const { return first_present({models, grid}, name); }

MetricSource read_metric_source(const GridMetric& metric, const GridPaths& paths) {
  if (metric.perplexity) {
    Text text = metric.source == "wikitext2" ? read_wikitext2(paths.data) : read_text(paths.data_path(metric.source));
    std::string digest = text.source.sha256;
    return {std::move(text), std::move(digest)};
  }
  const auto known = known_tasks();
  const bool named = std::ranges::find(known, metric.source) != known.end();
  Task task = read_task(named ? metric.source : paths.data_path(metric.source), paths.data, metric.limit);
  Json files = Json::array();
  for (const SourceFile& file : task.sources) files.push_back(file.sha256);
  return {std::move(task), sha256_hex(canonical_json(files))};
}

MetricInput prepare(const GridMetric& metric, const MetricSource& source, const Tokenizer& tokenizer,
                    std::int64_t positions) {
  MetricInput input;
  input.metric = &metric;
  input.source = &source;
  if (metric.perplexity) {
    input.ids = text_ids(tokenizer, std::get<Text>(source.content).text);
  } else {
    const std::int64_t longest = metric.max_length > 0 ? metric.max_length : positions;
    input.encoded = encode_task(std::get<Task>(source.content), tokenizer, {.bos = metric.bos, .max_length = longest});
  }
  return input;
}

Json measure(const Transformer& model, const MetricInput& input, std::int64_t batch_tokens,
             const ProgressCallback& progress) {
  const GridMetric& m = *input.metric;
  const TransformerScorer scorer(model);
  if (m.perplexity) {
    return perplexity_json(
        perplexity(scorer, input.ids,
                   {.seqlen = m.seqlen, .windows = m.windows, .batch_tokens = batch_tokens, .progress = progress}));
  }
  const ChoiceResult result = multiple_choice(scorer, std::get<Task>(input.source->content), input.encoded,
                                              {.batch_tokens = batch_tokens, .progress = progress});
  Json json = choice_json(result);
  json["correct"] = outcomes(result, &ChoiceItem::pred);
  if (result.normalized) json["correct_norm"] = outcomes(result, &ChoiceItem::pred_norm);
  return json;
}

}  // namespace ptq

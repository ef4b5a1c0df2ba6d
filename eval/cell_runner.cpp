#include "eval/cell_runner.h"

#include "eval/activation_files.h"
#include "eval/health.h"
#include "eval/layer_files.h"
#include "host/checkpoint.h"
#include "host/files.h"
#include "host/output_file.h"
#include "host/range.h"
#include "quant/changed_tensors.h"
#include "quant/export_format.h"
#include "quant/remove.h"

#include <array>
#include <ctime>

namespace ptq {

namespace fs = std::filesystem;
using Json = nlohmann::json;

namespace {

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text.data();
}

// Metrics of a cell whose layers were kept are kept too, under their names: a grid may be edited before it goes on.
fs::path metric_file(const fs::path& partial, const std::string& name) {
  return partial / fmt::format("metric-{}.json", sha256_hex(name).substr(0, 16));
}

// What was measured before an interruption; null if there is nothing, or nothing whole.
Json kept_metric(const fs::path& file) {
  if (!present(file)) return nullptr;
  try {
    const Json json = read_json(file, "metric of a cell in progress");
    if (!json.is_object() || !json.contains("value")) return nullptr;
    return json.value("sha256", Json()) == sha256_hex(canonical_json(json.at("value"))) ? json.at("value") : Json();
  } catch (const Error& e) {
    if (e.code() != Exit::data && e.code() != Exit::missing) throw;
    return nullptr;
  }
}

void keep_metric(const fs::path& file, const Json& value) {
  write_file(file, canonical_json({{"sha256", sha256_hex(canonical_json(value))}, {"value", value}}) + "\n");
}

}  // namespace

CellRunner::CellRunner(const Grid& grid, GridInputs& inputs, const Store& store, Ops& ops, RunnerOptions options)
    : grid_(grid), inputs_(inputs), store_(store), ops_(ops), options_(std::move(options)) {}

ModelSession& CellRunner::session(std::size_t model, DType compute) {
  const std::pair wanted{model, compute};
  if (session_of_ != wanted) {
    ranges_set_.reset();
    session_of_.reset();
    session_.reset();  // before the next one takes memory
    session_ = std::make_unique<ModelSession>(grid_.model.at(model), inputs_.model_directory(model),
                                              inputs_.tokenizer(model), ops_, compute);
    session_of_ = wanted;
  }
  return *session_;
}

ModelRanges& CellRunner::ranges_of(const GridCell& cell) {
  if (ranges_set_ != cell.set) {
    ranges_ = {};
    ranges_set_ = cell.set;
  }
  return ranges_;
}

QuantizeReport CellRunner::remove(const GridCell& cell, ModelSession& model, const QuantSink& sink) {
  if (grid_.method.at(*cell.method).treatment == Treatment::remove_injected) {
    check(model.injection().has_value(), "nothing was injected");
    // Of the model as it was: in a twin with offsets, biases hold a part of what its columns do.
    const ModelFiles& files = *model.before_injection();
    const auto columns = injected_columns(files.config(), *model.injection());
    return remove_columns(files, ops_, columns, sink, options_.progress);
  }
  const ModelFiles& files = *model.files();
  ModelRanges& ranges = ranges_of(cell);
  Seconds seconds;
  if (!ranges.serves(false)) {
    Transformer network(model.files(), ops_, model.compute());
    ranges = measure_all_ranges(network, inputs_.windows(cell.model, *cell.set).calibration.windows, false, seconds,
                                options_.progress);
  }
  QuantizeReport report = remove_columns(files, ops_, dead_columns(ranges), sink, options_.progress);
  report.seconds += seconds;
  return report;
}

CellRunner::Quantized CellRunner::quantize(const GridCell& cell, ModelSession& model, PartialCell& partial) {
  const GridMethod& method = grid_.method.at(*cell.method);
  if (method.treatment == Treatment::full_precision) return {model.files(), {}};
  const bool original = method.treatment == Treatment::remove_injected;
  const auto& source = original ? model.before_injection() : model.files();
  const ModelFiles& files = *source;
  const auto overlay = std::make_shared<TensorOverlay>(source);
  LayerFiles layers(partial, options_.layer_seconds, *overlay);
  const bool quantizes = method.treatment == Treatment::quantize;
  const DType floats = float_type(ExportFormat::fake, model.compute());
  const DType linears = quantizes ? linear_type(method.spec, floats) : floats;
  ChangedTensors changed(files, ops_, make_float_store(linears), floats,
                         [&](const std::string& name, const Tensor& value) { layers.put(name, value); });
  QuantSink sink;
  sink.linear = [&](int layer, LinearRole role, const QuantizedMatrix& m) { changed.linear(layer, role, m); };
  sink.folded = [&](int layer, const BlockWeights& block) { changed.folded(layer, block); };

  Quantized result;
  if (quantizes) {
    std::span<const Window> windows;
    if (cell.set) windows = inputs_.windows(cell.model, *cell.set).calibration.windows;
    const QuantizeContext context{.ranges = cell.set ? &ranges_of(cell) : nullptr, .layers = &layers};
    result.report =
        quantize_linears(source, ops_, method.spec, model.compute(), windows, sink, options_.progress, context);
  } else {
    result.report = remove(cell, model, sink);
  }
  result.files = std::make_shared<const ModelFiles>(files.with(overlay, result.report.activations));
  return result;
}

Json CellRunner::evaluate(const GridCell& cell, ModelSession& model, const Quantized& quantized, PartialCell& partial,
                          Json& seconds) {
  const double start = steady_seconds();
  Transformer& network = model.network(quantized.files, grid_.method.at(*cell.method).products);
  std::int64_t tokens = options_.batch_tokens;
  for (const std::size_t m : cell.metrics) tokens = std::max(tokens, grid_.metrics[m].seqlen);
  network.load_all({.tokens = tokens, .logits = 1});
  seconds["load"] = steady_seconds() - start;

  // Measured one by one where the layers of this cell were worth keeping.
  const bool keep = partial.use_existing();
  Json metrics = Json::object();
  for (const std::size_t m : cell.metrics) {
    const GridMetric& metric = grid_.metrics[m];
    const Range range(ops_, "{}", metric.name);
    const fs::path file = metric_file(partial.directory(), metric.name);
    const double begin = steady_seconds();
    Json value = keep ? kept_metric(file) : Json();
    if (value.is_null()) {
      const ProgressCallback progress = [&](std::int64_t done, std::int64_t total) {
        if (options_.progress) options_.progress(metric.name, done, total);
      };
      value = measure(network, model.input(metric, inputs_.source(m)), options_.batch_tokens, progress);
      if (keep) keep_metric(file, value);
    }
    seconds[metric.name] = steady_seconds() - begin;
    metrics[metric.name] = std::move(value);
  }
  return metrics;
}

Json CellRunner::study(const GridCell& cell, ModelSession& model, const std::string& id, Json& seconds) {
  Seconds spent;
  const Transformer network(model.files(), ops_, model.compute());
  const ActivationStudy found = study_activations(network, inputs_.windows(cell.model, *cell.set).calibration.windows,
                                                  grid_.study.at(*cell.study), spent, options_.progress);
  const fs::path file = store_.arrays_path(id);
  Store::make_parent(file);
  write_safetensors(file, study_arrays(found), {});
  Json json = study_json(found);
  json["arrays"] = {{"bytes", fs::file_size(file)}, {"sha256", sha256_file(file)}};
  seconds["study"] = to_json(spent);
  return json;
}

CellResult CellRunner::compute(const GridCell& cell, const CellInputs& inputs) {
  const double start = steady_seconds();
  CellResult result;
  result.identity = cell_identity(grid_, cell, inputs);
  const std::string id = cell_id(result.identity);
  ModelSession& model = session(cell.model, inputs.dtype);
  Json seconds = Json::object();
  if (cell.study) {
    result.study = study(cell, model, id, seconds);
  } else {
    PartialCell partial(store_.partial_path(id));
    const Quantized quantized = quantize(cell, model, partial);
    if (!quantized.report.linears.empty()) {
      result.health = health_json(quantized.report);
      seconds["quantize"] = to_json(quantized.report.seconds);
    }
    result.metrics = evaluate(cell, model, quantized, partial, seconds);
  }
  if (cell.set) result.calibration = manifest_json(inputs_.windows(cell.model, *cell.set).calibration.manifest);
  seconds["total"] = steady_seconds() - start;
  const GridModel& m = grid_.model[cell.model];
  result.run = {{"grid", grid_.name},
                {"model", m.name},
                {"method", cell.study ? "activations" : grid_.method[*cell.method].name},
                {"finished", utc_now()},
                {"host", host_name()},
                {"device", ops_.description()},
                {"version", options_.version},
                {"peak_memory_bytes", peak_memory()},
                {"seconds", std::move(seconds)}};
  if (cell.set) result.run["set"] = grid_.set.at(*cell.set).title;
  return result;
}

}  // namespace ptq

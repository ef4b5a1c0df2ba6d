#include "eval/cell.h"

#include "host/error.h"
#include "host/files.h"

namespace ptq {

namespace {

using Json = nlohmann::json;

Json to_json(const GridMetric& metric, const std::string& sha256) {
  if (metric.perplexity) {
    return {{"kind", "perplexity"}, {"text_sha256", sha256}, {"seqlen", metric.seqlen}, {"windows", metric.windows}};
  }
  return {{"kind", "choice"},
          {"task_sha256", sha256},
          {"limit", metric.limit},
          {"bos", metric.bos},
          {"max_length", metric.max_length}};
}

}  // namespace

std::string canonical_json(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string cell_id(const Json& identity) { return sha256_hex(canonical_json(identity)); }

Json to_json(const InjectSpec& spec) {
  Json places = Json::array();
  for (InjectPlace place : spec.places) places.push_back(name_of(place));
  Json json = {{"at", std::move(places)},
               {"channels", spec.channels},
               {"scale", spec.scale},
               {"offset", spec.offset},
               {"seed", spec.seed}};
  return json;
}

Json to_json(const GridMethod& method) {
  switch (method.treatment) {
    case Treatment::full_precision:
      return {{"method", "full-precision"}};
    case Treatment::remove_dead:
      return {{"method", "remove-dead"}};
    case Treatment::remove_injected:
      return {{"method", "remove-injected"}};
    case Treatment::quantize:
      break;
  }
  Json json = to_json(method.spec);
  json["scheme"] = scheme_name(method.spec);
  if (method.spec.activations) json["products"] = method.products == IntegerProducts::fake ? "fake" : "exact";
  return json;
}

Json to_json(const GridSet& set) {
  const CalibrationRequest& r = set.request;
  Json json = {{"set", r.set}, {"seqlen", r.seqlen}, {"seed", r.seed}, {"sampling", name_of(r.sampling)}};
  if (r.samples) json["samples"] = *r.samples;
  if (!r.format.empty()) json["format"] = r.format;
  if (set.order) json["order"] = *set.order;
  return json;
}

Json cell_identity(const Grid& grid, const GridCell& cell, const CellInputs& inputs) {
  const GridModel& model = grid.model.at(cell.model);
  Json identity = {{"kind", cell.study ? "activations" : "evaluation"},
                   {"numerics", numerics_version},
                   {"backend", inputs.backend},
                   {"dtype", name_of(inputs.dtype)},
                   {"model", {{"files_sha256", inputs.model_sha256}, {"tokenizer_sha256", inputs.tokenizer_sha256}}}};
  if (model.inject) identity["model"]["inject"] = to_json(*model.inject);
  if (cell.set) {
    identity["calibration"] = to_json(grid.set.at(*cell.set));
    identity["calibration"]["ids_sha256"] = inputs.ids_sha256;
  }
  if (cell.study) {
    const ActivationSpec& spec = grid.study.at(*cell.study);
    identity["study"] = {{"side", name_of(spec.side)}, {"bins", spec.bins}, {"range", spec.range}};
    return identity;
  }
  identity["method"] = to_json(grid.method.at(*cell.method));
  check(inputs.metric_sha256.size() == cell.metrics.size(), "digests of {} metrics for {}", inputs.metric_sha256.size(),
        cell.metrics.size());
  for (std::size_t i = 0; i < cell.metrics.size(); ++i) {
    const GridMetric& metric = grid.metrics.at(cell.metrics[i]);
    identity["metrics"][metric.name] = to_json(metric, inputs.metric_sha256[i]);
  }
  return identity;
}

}  // namespace ptq

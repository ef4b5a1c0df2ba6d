#include "quant/report.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

namespace ptq {

LinearHealth& deliver(Ops& ops, const ModelFiles& files, int layer, LinearRole role, const Tensor& original,
                      const QuantizedMatrix& m, const QuantSink& sink, QuantizeReport& report) {
  LinearHealth& health = report.linears.emplace_back();
  health.layer = layer;
  health.role = role;
  health.module = files.linear_ref(layer, role).module;
  require_finite(ops, ops.to_device(m.q), health.module + ": quantized weight");
  const auto rows = m.err_rows.span<double>();
  health.error = std::accumulate(rows.begin(), rows.end(), 0.0);
  health.relative_error = relative_error(original, m.q);
  timed(ops, health.seconds.write, [&] { sink.linear(layer, role, m); });
  return health;
}

double QuantizeReport::error() const {
  return std::accumulate(linears.begin(), linears.end(), 0.0,
                         [](double sum, const LinearHealth& l) { return sum + l.error; });
}

std::int64_t QuantizeReport::dead_columns() const {
  return std::accumulate(linears.begin(), linears.end(), std::int64_t{0},
                         [](std::int64_t sum, const LinearHealth& l) { return sum + l.dead_columns; });
}

std::int64_t QuantizeReport::retried() const {
  return std::count_if(linears.begin(), linears.end(), [](const LinearHealth& l) { return l.retries > 0; });
}

std::int64_t QuantizeReport::fell_back() const {
  return std::count_if(linears.begin(), linears.end(), [](const LinearHealth& l) { return l.fell_back; });
}

nlohmann::json to_json(const Seconds& s) {
  return {{"load", s.load},   {"forward", s.forward}, {"hessian", s.hessian}, {"factor", s.factor},
          {"sweep", s.sweep}, {"search", s.search},   {"write", s.write}};
}

nlohmann::json to_json(const LinearHealth& l) {
  return {{"module", l.module},   {"error", l.error},         {"relative_error", l.relative_error},
          {"damp", l.damp},       {"retries", l.retries},     {"dead_columns", l.dead_columns},
          {"in_fp64", l.in_fp64}, {"fell_back", l.fell_back}, {"seconds", to_json(l.seconds)}};
}

nlohmann::json to_json(const AwqSearch& a) {
  return {{"prev", a.prev},
          {"layers", a.layers},
          {"best_ratio", a.best_ratio},
          {"loss", a.loss},
          {"dead_columns", a.dead_columns}};
}

nlohmann::json to_json(const QuantizeReport& report) {
  nlohmann::json linears = nlohmann::json::array();
  for (const LinearHealth& l : report.linears) linears.push_back(to_json(l));
  nlohmann::json j{{"summary",
                    {{"linears", report.linears.size()},
                     {"error", report.error()},
                     {"bits_per_weight", report.bits_per_weight},
                     {"dead_columns", report.dead_columns()},
                     {"retried", report.retried()},
                     {"fell_back", report.fell_back()}}},
                   {"seconds", to_json(report.seconds)},
                   {"linears", std::move(linears)}};
  if (report.alpha) j["alpha"] = *report.alpha;
  if (!report.awq.empty()) {
    nlohmann::json searches = nlohmann::json::array();
    for (const AwqSearch& a : report.awq) searches.push_back(to_json(a));
    j["awq"] = std::move(searches);
  }
  return j;
}

}  // namespace ptq

#include "eval/grid_table.h"

#include "eval/cell.h"

#include <algorithm>

namespace ptq {

namespace {

using Json = nlohmann::json;

// Quoted where CSV asks for it.
std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\n\r") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + "\"";
}

std::string number(const Json& object, const char* key) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  return !object.is_object() || found == object.end() || !found->is_number() ? "" : found->dump();
}

struct Names {
  std::string model, method, set = {}, group = {}, draw = {};
};

Names names_of(const Grid& grid, const GridCell& cell) {
  Names n{.model = grid.model[cell.model].name, .method = cell.study ? "activations" : grid.method[*cell.method].name};
  if (!cell.set) return n;
  const GridSet& set = grid.set[*cell.set];
  n.set = set.name;
  n.group = set.group;
  n.draw = std::to_string(set.draw);
  return n;
}

}  // namespace

Json grid_json(const Grid& grid) {
  Json metrics = Json::array(), models = Json::array(), methods = Json::array(), sets = Json::array();
  for (const GridMetric& m : grid.metrics)
    metrics.push_back({{"name", m.name}, {"kind", m.perplexity ? "perplexity" : "choice"}, {"source", m.source}});
  for (const GridModel& m : grid.model) {
    Json json = {{"name", m.name}, {"path", m.path}};
    if (m.inject) {
      json["of"] = m.of;
      json["inject"] = to_json(*m.inject);
    }
    models.push_back(std::move(json));
  }
  for (const GridMethod& m : grid.method) {
    Json json = to_json(m);
    json["name"] = m.name;
    json["calibrated"] = m.needs_set();
    methods.push_back(std::move(json));
  }
  for (const GridSet& s : grid.set) {
    Json json = to_json(s);
    json.update({{"name", s.name}, {"group", s.group}, {"draw", s.draw}});
    sets.push_back(std::move(json));
  }
  return {{"grid",
           {{"name", grid.name},
            {"baseline", grid.baseline},
            {"report", grid.report},
            {"metrics", std::move(metrics)},
            {"models", std::move(models)},
            {"methods", std::move(methods)},
            {"sets", std::move(sets)}}}};
}

Json row_json(const Grid& grid, const TableRow& row) {
  const GridCell& cell = grid.cells.at(row.cell);
  const Names n = names_of(grid, cell);
  Json json = {{"model", n.model},
               {"method", n.method},
               {"kind", cell.study ? "activations" : "evaluation"},
               {"status", row.status}};
  if (cell.set) json.update({{"set", n.set}, {"group", n.group}, {"draw", grid.set[*cell.set].draw}});
  if (!row.id.empty()) json["id"] = row.id;
  if (!row.reason.empty()) json["reason"] = row.reason;
  if (!row.result.is_null()) json["result"] = row.result;
  return json;
}

std::string csv_header() { return "model,method,set,draw,metric,measure,value,stderr,n,status,id\n"; }

std::string csv_rows(const Grid& grid, const TableRow& row) {
  const GridCell& cell = grid.cells.at(row.cell);
  const Names n = names_of(grid, cell);
  std::string lines;
  const auto line = [&](const std::string& metric, const std::string& measure, const Json& value,
                        const std::string& count) {
    lines += fmt::format("{},{},{},{},{},{},{},{},{},{},{}\n", csv_field(n.model), csv_field(n.method),
                         csv_field(n.set), n.draw, csv_field(metric), measure, number(value, "value"),
                         number(value, "stderr"), count, row.status, row.id);
  };
  if (cell.study) line("activations", "", {}, "");
  for (const std::size_t m : cell.metrics) {
    const GridMetric& metric = grid.metrics[m];
    const Json result =
        row.result.is_null() ? Json::object() : row.result.at("metrics").value(metric.name, Json::object());
    if (metric.perplexity) {
      line(metric.name, "ppl", result, number(result, "windows"));
      continue;
    }
    line(metric.name, "acc", result.value("acc", Json::object()), number(result, "n"));
    if (result.contains("acc_norm")) line(metric.name, "acc_norm", result.at("acc_norm"), number(result, "n"));
  }
  return lines;
}

}  // namespace ptq

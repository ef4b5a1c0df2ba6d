#include "eval/health.h"

#include <nlohmann/json.hpp>

namespace ptq {

nlohmann::json health_json(const QuantizeReport& report) {
  const nlohmann::json whole = to_json(report);
  nlohmann::json health = {{"summary", whole.at("summary")}};
  health["summary"]["nonfinite"] = 0;
  nlohmann::json linears = {{"module", nlohmann::json::array()}};
  for (const LinearHealth& l : report.linears) {
    linears["module"].push_back(l.module);
    linears["error"].push_back(l.error);
    linears["relative_error"].push_back(l.relative_error);
    linears["damp"].push_back(l.damp);
    linears["dead_columns"].push_back(l.dead_columns);
    linears["retries"].push_back(l.retries);
    linears["in_fp64"].push_back(l.in_fp64);
    linears["fell_back"].push_back(l.fell_back);
  }
  health["linears"] = std::move(linears);
  if (report.alpha) health["alpha"] = *report.alpha;
  for (const AwqSearch& search : report.awq) {
    health["awq"]["prev"].push_back(search.prev);
    health["awq"]["best_ratio"].push_back(search.best_ratio);
    health["awq"]["dead_columns"].push_back(search.dead_columns);
  }
  return health;
}

}  // namespace ptq

#include "eval/result_file.h"

#include "eval/cell.h"
#include "host/error.h"
#include "host/files.h"

#include <algorithm>

namespace ptq {

namespace {

using Json = nlohmann::json;

constexpr std::string_view digest_member = "\"sha256\":";

bool is_object(const Json& json, const char* name) { return json.contains(name) && json[name].is_object(); }

// What readers of results take for granted.
bool has_form(const Json& json) {
  const Json& identity = json["identity"];
  const bool study = identity.value("kind", Json()) == "activations";
  const char* outcome = study ? "study" : "metrics";
  if (!is_object(json, outcome) || json.contains(study ? "metrics" : "study")) return false;
  if (!is_object(json, "run") || !is_object(json["run"], "seconds")) return false;
  return study || std::ranges::all_of(json["metrics"], [](const Json& metric) { return metric.is_object(); });
}

}  // namespace

std::string encode_result(const CellResult& result) {
  std::string text = fmt::format("{{\"id\":\"{}\",\n", cell_id(result.identity));
  const auto member = [&](const char* name, const Json& value) {
    if (!value.is_null()) text += fmt::format("\"{}\":{},\n", name, canonical_json(value));
  };
  member("identity", result.identity);
  member("metrics", result.metrics);
  member("study", result.study);
  member("health", result.health);
  member("calibration", result.calibration);
  member("outcome_sha256", sha256_hex(text));
  member("run", result.run);
  const std::string digest = sha256_hex(text);
  return fmt::format("{}{}\"{}\"}}\n", text, digest_member, digest);
}

Json decode_result(std::string_view text, const std::string& id, const std::string& origin) {
  const auto last = text.rfind(digest_member);
  const bool complete =
      last != std::string_view::npos &&
      text.substr(last) == fmt::format("{}\"{}\"}}\n", digest_member, sha256_hex(text.substr(0, last)));
  require(complete, Exit::data, "{}: its digest is not that of its content: truncated or changed", origin);
  Json json = parse_json(text, origin);
  require(json.is_object() && is_object(json, "identity") && json.value("id", Json()) == id, Exit::data,
          "{}: it is not the result of cell {}", origin, id);
  require(cell_id(json["identity"]) == id, Exit::data, "{}: its id is not the digest of its identity", origin);
  require(has_form(json), Exit::data, "{}: it lacks what a result consists of; was it written by another program?",
          origin);
  return json;
}

}  // namespace ptq

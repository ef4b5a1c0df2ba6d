#include "data/replay.h"

#include "data/jsonl.h"
#include "host/error.h"
#include "host/files.h"
#include "host/printable.h"

#include <nlohmann/json.hpp>

#include <array>

namespace ptq {

namespace {

using Json = nlohmann::json;

std::uint64_t number_member(const Json& object, const char* key, const std::string& origin) {
  const auto member = object.find(key);
  require(member != object.end() && member->is_number_unsigned(), Exit::data, "{}: \"{}\" must be a whole number",
          origin, key);
  return member->get<std::uint64_t>();
}

std::int64_t size_member(const Json& object, const char* key, const std::string& origin) {
  const std::uint64_t value = number_member(object, key, origin);
  require(value >= 1 && value <= std::uint64_t{1} << 30, Exit::data, "{}: \"{}\" is {}", origin, key, value);
  return static_cast<std::int64_t>(value);
}

std::string shown(const Json& value) {
  return printable(value.dump(-1, ' ', true, Json::error_handler_t::replace), 80);
}

Json member_or_null(const Json& object, const char* key) {
  const auto member = object.is_object() ? object.find(key) : object.end();
  return member == object.end() ? Json() : *member;
}

std::string described(const Json& tokenizer) {
  return fmt::format("{} (sha256 {})", shown(member_or_null(tokenizer, "description")),
                     shown(member_or_null(tokenizer, "sha256")));
}

// The manifests of the parts of a mixture, or the one of a set that is none.
std::vector<Json> single_sets(const Json& manifest) {
  const Json parts = member_or_null(manifest, "parts");
  return parts.is_array() ? parts.get<std::vector<Json>>() : std::vector<Json>{manifest};
}

// What of a single set's sources and rule is not as it was; empty if nothing.
std::string difference(const Json& was, const Json& is) {
  const Json old_sources = member_or_null(was, "sources"), new_sources = member_or_null(is, "sources");
  if (old_sources.size() != new_sources.size())
    return fmt::format("{} source files, now {}", old_sources.size(), new_sources.size());
  for (std::size_t i = 0; old_sources.is_array() && i < old_sources.size(); ++i)
    if (old_sources[i] != new_sources[i])
      return fmt::format("source {} had sha256 {}, now {}", shown(member_or_null(new_sources[i], "file")),
                         shown(member_or_null(old_sources[i], "sha256")),
                         shown(member_or_null(new_sources[i], "sha256")));
  for (const char* key : {"packing", "bos", "samples", "seqlen", "seed", "format", "windows"})
    if (member_or_null(was, key) != member_or_null(is, key))
      return fmt::format("rule: \"{}\" was {}, now {}", key, shown(member_or_null(was, key)),
                         shown(member_or_null(is, key)));
  return {};
}

}  // namespace

Json read_manifest(const std::filesystem::path& file) {
  Json json = read_json(file, "calibration manifest");
  if (json.is_object() && json.contains("calibration")) json = Json(json["calibration"]);
  require(json.is_object() && member_or_null(json, "request").is_object(), Exit::data,
          "{}: not a calibration manifest (no \"request\"); ptq calibration --out writes FILE.json, ptq quantize "
          "ptq.json",
          file.string());
  return json;
}

CalibrationRequest replay_request(const Json& manifest, const std::filesystem::path& data, const std::string& origin) {
  const Json request = member_or_null(manifest, "request");
  require(request.is_object(), Exit::data, "{}: no \"request\"", origin);
  CalibrationRequest r{.set = string_member(request, "set", origin), .data = data};
  if (request.contains("samples")) r.samples = size_member(request, "samples", origin);
  if (request.contains("seqlen")) r.seqlen = size_member(request, "seqlen", origin);
  if (request.contains("seed")) r.seed = number_member(request, "seed", origin);
  if (request.contains("sampling")) {
    const auto sampling = find_sampling(string_member(request, "sampling", origin));
    require(sampling.has_value(), Exit::data, "{}: \"sampling\" is none that this version knows", origin);
    r.sampling = *sampling;
  }
  if (request.contains("format")) r.format = string_member(request, "format", origin);
  return r;
}

void verify_replay(const Json& manifest, const CalibrationManifest& rebuilt, const std::string& origin) {
  const std::string& expected = string_member(manifest, "ids_sha256", origin);
  if (expected == rebuilt.ids_sha256) return;
  const Json now = manifest_json(rebuilt);
  std::string reason;
  const std::vector<Json> old_sets = single_sets(manifest), new_sets = single_sets(now);
  for (std::size_t i = 0; reason.empty() && i < std::min(old_sets.size(), new_sets.size()); ++i)
    reason = difference(old_sets[i], new_sets[i]);
  // A tokenizer that differs also changes how many windows there are, so it is named before the rule is.
  const Json old_tokenizer = member_or_null(manifest, "tokenizer"), new_tokenizer = member_or_null(now, "tokenizer");
  if (old_tokenizer != new_tokenizer && !reason.starts_with("source"))
    reason = fmt::format("tokenizer was {}, now {}", described(old_tokenizer), described(new_tokenizer));
  if (reason.empty() && old_sets.size() != new_sets.size()) reason = "the mixture's parts";
  if (reason.empty()) reason = "sources, tokenizer and rule are as they were: another version of ptq made it";
  fail(Exit::data, "{}: replayed ids have sha256 {}, the manifest has {}; what changed: {}", origin, rebuilt.ids_sha256,
       printable(expected), reason);
}

}  // namespace ptq

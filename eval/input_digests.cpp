#include "eval/input_digests.h"

#include "eval/cell.h"
#include "eval/store.h"
#include "host/error.h"
#include "host/files.h"

#include <sys/stat.h>

namespace ptq {

namespace fs = std::filesystem;
using Json = nlohmann::json;

namespace {

constexpr std::int64_t nanoseconds = 1000000000;

// What changes when a file does; null if it is not there.
Json stamp_of(const fs::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return nullptr;
  const auto time = [](const timespec& t) { return t.tv_sec * nanoseconds + t.tv_nsec; };
  // The change time too: whoever copies a file with its old time cannot set that one.
  return {{"path", path.string()},
          {"bytes", S_ISDIR(status.st_mode) ? 0 : status.st_size},
          {"mtime_ns", time(status.st_mtim)},
          {"ctime_ns", time(status.st_ctim)}};
}

std::string canonical_path(const fs::path& path) {
  std::error_code error;
  const fs::path canonical = fs::weakly_canonical(path, error);
  return (error ? path : canonical).string();
}

}  // namespace

fs::path InputDigests::file_of(const Json& request) const {
  const std::string key = sha256_hex(canonical_json(request));
  return directory_ / key.substr(0, 2) / (key + ".json");
}

Json InputDigests::entry(const Json& request) const {
  const fs::path file = file_of(request);
  std::error_code error;
  if (!fs::exists(file, error)) return nullptr;
  try {
    Json json = read_json(file, "digest");
    const bool whole = json.is_object() && json.value("request", Json()) == request && json.contains("value") &&
                       json.value("sources", Json()).is_array() && json.value("root", Json()).is_string();
    return whole ? json : Json();
  } catch (const Error& e) {
    // It is made again from what it was made of.
    if (e.code() != Exit::data && e.code() != Exit::missing) throw;
    return nullptr;
  }
}

std::optional<Json> InputDigests::last(const Json& request) const {
  const Json json = entry(request);
  if (json.is_null()) return std::nullopt;
  return json.at("value");
}

std::optional<Json> InputDigests::current(const Json& request, const fs::path& root) const {
  const Json json = entry(request);
  if (json.is_null() || json.at("root") != canonical_path(root)) return std::nullopt;
  for (const Json& source : json.at("sources")) {
    if (!source.is_object() || !source.value("path", Json()).is_string()) return std::nullopt;
    if (stamp_of(source.at("path").get<std::string>()) != source) return std::nullopt;
  }
  return json.at("value");
}

Json InputDigests::stamps_of(const std::vector<fs::path>& sources) {
  Json stamps = Json::array();
  for (const fs::path& source : sources) {
    const Json stamp = stamp_of(canonical_path(source));
    // A file that is not found is never current.
    stamps.push_back(stamp.is_null() ? Json{{"path", source.string()}} : stamp);
  }
  return stamps;
}

void InputDigests::remember(const Json& request, const fs::path& root, const Json& stamps, const Json& value) const {
  const Json json = {{"request", request}, {"root", canonical_path(root)}, {"sources", stamps}, {"value", value}};
  if (entry(request) == json) return;
  const fs::path file = file_of(request);
  Store::make_parent(file);
  write_file(file, canonical_json(json) + "\n");
}

}  // namespace ptq

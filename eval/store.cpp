#include "eval/store.h"

#include "data/corpora.h"
#include "eval/cell.h"
#include "eval/partial_cell.h"
#include "host/error.h"
#include "host/files.h"
#include "host/output_file.h"
#include "host/printable.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <system_error>

namespace ptq {

namespace fs = std::filesystem;
using Json = nlohmann::json;

namespace {

constexpr const char *marker_name = "store.json", *store_format = "ptq store 1";

// Ids become file names.
void require_id(const std::string& id) {
  check(id.size() == 64 && id.find_first_not_of("0123456789abcdef") == std::string::npos, "'{}' is not an id", id);
}

void make_directory(const fs::path& path) {
  if (::mkdir(path.c_str(), 0777) == 0) {
    sync_directory(path.has_parent_path() ? path.parent_path() : fs::path("."));
    return;
  }
  const int error = errno;
  if (error == EEXIST) return;
  fail(creation_failure(error), "{}: cannot be created: {}", path.string(), std::strerror(error));
}

// Temporary files may be there: of a process that is making the store right now, or died doing so.
bool holds_nothing(const fs::path& directory) {
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error)) {
    if (!is_temporary(entry->path())) return false;
  }
  return !error;
}

// A study's result stands for its arrays too. Their digest is for those who read them; the size shows most damage.
void require_arrays(const Json& study, const fs::path& file) {
  std::error_code error;
  const std::uintmax_t bytes = fs::file_size(file, error);
  const Json arrays = study.value("arrays", Json());
  const bool whole = !error && arrays.is_object() && arrays.value("bytes", Json()) == bytes;
  require(whole, Exit::data, "{}: missing, or not of the size that its result says", file.string());
}

}  // namespace

Store::Store(const fs::path& directory, StoreAccess access, std::function<void(const std::string&)> note)
    : directory_(directory), access_(access), note_(std::move(note)) {
  const fs::path marker = directory / marker_name;
  if (!present(marker)) {
    require(access == StoreAccess::write, Exit::missing, "{}: no store there; `ptq run` makes one", directory.string());
    // In this order: another process may make the store meanwhile.
    require(!present(directory) || holds_nothing(directory) || present(marker), Exit::data,
            "{}: exists and is not a store; choose another --store", directory.string());
    make_parent(marker);
    write_file(marker, Json{{"format", store_format}}.dump() + "\n");
  }
  const Json json = read_json(marker, "store");
  require(json.is_object() && json.value("format", Json()) == store_format, Exit::data,
          "{}: not a '{}'; it was written by another version, or is something else", marker.string(), store_format);
  // Shows before hours of work, not after.
  constexpr std::uint64_t probe = 1 << 16;
  if (access == StoreAccess::write) OutputFile(directory / "probe").reserve(Size(probe));
}

fs::path Store::result_path(const std::string& id) const {
  require_id(id);
  return directory_ / id.substr(0, 2) / (id + ".json");
}
fs::path Store::arrays_path(const std::string& id) const { return result_path(id).replace_extension(".safetensors"); }
fs::path Store::failure_path(const std::string& id) const {
  require_id(id);
  return directory_ / "failed" / id.substr(0, 2) / (id + ".json");
}
fs::path Store::partial_path(const std::string& id) const {
  require_id(id);
  return directory_ / "partial" / id;
}

void Store::make_parent(const fs::path& file) {
  const fs::path parent = file.parent_path();
  if (parent.empty() || present(parent)) return;
  make_parent(parent);
  make_directory(parent);
}

void Store::set_aside(const fs::path& file, const std::string& reason) const {
  if (access_ == StoreAccess::read) {
    note_(reason + "; it counts as missing");
    return;
  }
  const fs::path aside = directory_ / "aside" / file.filename();
  make_parent(aside);
  fs::path target = aside;
  for (int n = 1; present(target); ++n) target = aside.string() + fmt::format(".{}", n);
  std::error_code error;
  fs::rename(file, target, error);
  if (error == std::errc::no_such_file_or_directory) return;  // another process was faster
  require(!error, Exit::io, "{}: cannot be set aside: {}", file.string(), error.message());
  note_(fmt::format("{}; moved to {}, it is computed again", reason, target.string()));
}

std::optional<Json> Store::find(const std::string& id) const {
  const fs::path file = result_path(id);
  if (!present(file)) return std::nullopt;
  try {
    Json json = decode_result(read_file(file, "result"), id, file.string());
    if (json.contains("study")) require_arrays(json.at("study"), arrays_path(id));
    if (access_ == StoreAccess::write) drop_partial(id);  // whoever published it may have died before doing so
    return json;
  } catch (const Error& e) {
    if (e.code() == Exit::missing) return std::nullopt;  // set aside by another process meanwhile
    if (e.code() != Exit::data) throw;
    set_aside(file, e.what());
    return std::nullopt;
  }
}

void Store::publish(const CellResult& result) const {
  const std::string id = cell_id(result.identity);
  const fs::path file = result_path(id);
  make_parent(file);
  write_file(file, encode_result(result));
  forget_failure(id);
  drop_partial(id);
}

std::optional<Store::Failure> Store::failure(const std::string& id) const {
  const fs::path file = failure_path(id);
  if (!present(file)) return std::nullopt;
  try {
    const Json json = read_json(file, "failure");
    const auto& identity = json.at("identity");
    require(cell_id(identity) == id, Exit::data, "{}: its id is not the digest of its identity", file.string());
    return Failure{json.at("exit").get<int>(), json.at("reason").get<std::string>()};
  } catch (const Json::exception& e) {
    set_aside(file, fmt::format("{}: {}", file.string(), json_reason(e.what())));
  } catch (const Error& e) {
    if (e.code() != Exit::data && e.code() != Exit::missing) throw;
    set_aside(file, e.what());
  }
  return std::nullopt;
}

void Store::record_failure(const Json& identity, const Failure& failure) const {
  const std::string id = cell_id(identity);
  const fs::path file = failure_path(id);
  make_parent(file);
  write_file(
      file,
      canonical_json({{"id", id}, {"identity", identity}, {"exit", failure.exit}, {"reason", failure.reason}}) + "\n");
  drop_partial(id);
}

void Store::drop_partial(const std::string& id) const { PartialCell(partial_path(id)).drop(); }

void Store::forget_failure(const std::string& id) const {
  std::error_code ignored;
  fs::remove(failure_path(id), ignored);
}

void Store::remove_leftovers() const {
  std::error_code error;
  for (fs::recursive_directory_iterator entry(directory_, error), end; !error && entry != end; entry.increment(error))
    remove_if_leftover(entry->path());
  remove_dropped(directory_ / "partial");
}

}  // namespace ptq

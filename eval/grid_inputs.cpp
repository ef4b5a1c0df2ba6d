#include "eval/grid_inputs.h"

#include "data/calibration_sets.h"
#include "data/ids.h"
#include "data/manifest.h"
#include "data/mixture.h"
#include "data/python_random.h"
#include "host/checkpoint.h"
#include "host/files.h"
#include "model/activation_card.h"
#include "model/weights.h"

#include <algorithm>

namespace ptq {

namespace fs = std::filesystem;
using Json = nlohmann::json;

namespace {

constexpr std::string_view ids_prefix = "ids:";

Json model_request(const GridModel& model) { return {{"model", model.path}}; }
Json set_request(const GridSet& set, const std::string& tokenizer_sha256) {
  return {{"calibration", to_json(set)}, {"tokenizer_sha256", tokenizer_sha256}};
}
Json metric_request(const GridMetric& metric) {
  return {{metric.perplexity ? "text" : "task", metric.source}, {"limit", metric.limit}};
}

// Fisher-Yates from the end, as CPython's random.shuffle.
void permute(std::vector<std::vector<std::int32_t>>& windows, std::uint64_t seed) {
  PythonRandom random(seed);
  for (std::size_t i = windows.size(); i-- > 1;)
    std::swap(windows[i], windows[static_cast<std::size_t>(random.randint(0, static_cast<std::int64_t>(i)))]);
}

std::string digest_of(const std::vector<std::vector<std::int32_t>>& windows) {
  std::vector<std::int32_t> ids;
  for (const auto& w : windows) ids.insert(ids.end(), w.begin(), w.end());
  return ids_sha256(ids);
}

// Everything in a model's directory: which files a tokenizer is made of depends on which are there.
std::vector<fs::path> regular_files(const fs::path& directory) {
  std::vector<fs::path> files{directory};
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error)) {
    if (entry->is_regular_file(error)) files.push_back(entry->path());
  }
  std::ranges::sort(files);
  return files;
}

Json digest_model(const fs::path& directory) {
  const auto checkpoint = open_checkpoint(directory);
  std::vector<fs::path> files = checkpoint->files();
  for (const char* name : {"config.json", card_name}) {
    if (present(directory / name)) files.push_back(directory / name);
  }
  Json list = Json::array();
  for (const fs::path& file : files)
    list.push_back({{"name", file.filename().string()}, {"sha256", sha256_file(file)}});
  std::sort(list.begin(), list.end());
  return list;
}

// The files that a set was made of, as far as they can be named: below the data directory or the set itself.
std::vector<fs::path> sources_of(const CalibrationManifest& manifest, const fs::path& data, const std::string& set) {
  std::vector<fs::path> files;
  for (const CalibrationManifest& part : manifest.parts) {
    const auto more = sources_of(part, data, part.set);
    files.insert(files.end(), more.begin(), more.end());
  }
  for (const SourceFile& source : manifest.sources) {
    const fs::path own = set.starts_with(ids_prefix) ? set.substr(ids_prefix.size()) : set;
    const fs::path file = present(own) ? own : data / source.name;
    files.push_back(file);
    // A file that comes or goes beside it can change which ones are read.
    if (!present(own)) files.push_back(file.parent_path());
  }
  if (!manifest.sources.empty() && !data.empty()) files.push_back(data);
  return files;
}

// Is there anything of a named set below `data`? Fails with the way to get it if not.
void require_data(const CalibrationRequest& request) {
  const auto parts = parse_mixture(request.set);
  for (const MixturePart& part : parts) {
    CalibrationRequest one = request;
    one.set = part.set;
    require_data(one);
  }
  if (!parts.empty() || !needs_tokenizer(request.set)) return;
  for (const NamedSet& named : named_sets()) {
    const bool plain = named.argument.empty();
    if (plain ? request.set != named.name : !request.set.starts_with(named.name + ":")) continue;
    const auto found = named.found(request.data);
    const std::string argument = plain ? "" : request.set.substr(named.name.size() + 1);
    if (plain ? !found.empty() : std::ranges::find(found, argument) != found.end()) return;
    break;
  }
  if (request.set != "nonsense") open_corpus(request.set, request.data, "");
}

// A set with its files where they are found.
std::string with_paths(const std::string& set, const GridPaths& paths) {
  if (set.starts_with(ids_prefix)) {
    return std::string(ids_prefix) + paths.data_path(set.substr(ids_prefix.size()));
  }
  if (parse_mixture(set).empty()) return is_named_set(set) ? set : paths.data_path(set);
  std::string found;
  for (std::size_t begin = 0; begin <= set.size();) {
    const std::size_t end = std::min(set.find('+', begin), set.size()), weight = set.rfind(':', end);
    found += (begin == 0 ? "" : "+") + with_paths(set.substr(begin, weight - begin), paths) +
             set.substr(weight, end - weight);
    begin = end + 1;
  }
  return found;
}

// A result must not depend on where the files of a set lie.
void as_grid_says(CalibrationManifest& manifest, const std::string& set) {
  if (manifest.request.empty()) return;
  Json request = Json::parse(manifest.request);
  if (!manifest.parts.empty()) manifest.set = set;
  request["set"] = set;
  manifest.request = canonical_json(request);
}

}  // namespace

DType compute_type(const Grid& grid, const GridModel& model, const GridSettings& settings) {
  return model.dtype.value_or(grid.dtype.value_or(settings.dtype));
}

std::optional<CellInputs> last_inputs(const Grid& grid, const GridCell& cell, const GridSettings& settings,
                                      const InputDigests& digests) {
  const GridModel& model = grid.model.at(cell.model);
  CellInputs inputs;
  inputs.backend = settings.backend;
  inputs.dtype = compute_type(grid, model, settings);
  try {
    const auto files = digests.last(model_request(model));
    if (!files) return std::nullopt;
    inputs.model_sha256 = files->at("files_sha256").get<std::string>();
    inputs.tokenizer_sha256 = files->at("tokenizer_sha256").get<std::string>();
    if (cell.set) {
      const auto ids = digests.last(set_request(grid.set.at(*cell.set), inputs.tokenizer_sha256));
      if (!ids) return std::nullopt;
      inputs.ids_sha256 = ids->at("ids_sha256").get<std::string>();
    }
    for (const std::size_t metric : cell.metrics) {
      const auto source = digests.last(metric_request(grid.metrics.at(metric)));
      if (!source) return std::nullopt;
      inputs.metric_sha256.push_back(source->at("sha256").get<std::string>());
    }
  } catch (const Json::exception&) {
    return std::nullopt;  // not what this version wrote
  }
  return inputs;
}

GridInputs::GridInputs(const Grid& grid, GridPaths paths, GridSettings settings, InputDigests digests,
                       ResolveModel resolve)
    : grid_(grid),
      paths_(std::move(paths)),
      settings_(std::move(settings)),
      digests_(std::move(digests)),
      resolve_(std::move(resolve)) {}

fs::path GridInputs::model_directory(std::size_t model) const { return model_directory(grid_.model.at(model).path); }

fs::path GridInputs::model_directory(const std::string& path) const {
  try {
    return resolve_(paths_.model_path(path));
  } catch (const Error& e) {
    if (e.code() != Exit::missing || paths_.models.empty() || fs::path(path).is_absolute()) throw;
    fail(Exit::missing, "nothing at {}; {}", (paths_.models / path).string(), e.what());
  }
}

CalibrationRequest GridInputs::request_of(const GridSet& set) const {
  CalibrationRequest request = set.request;
  request.data = paths_.data;
  request.set = with_paths(request.set, paths_);
  return request;
}

std::vector<MissingInput> GridInputs::missing(const std::vector<std::size_t>& cells) {
  std::map<std::string, std::size_t> models;  // cells that need it
  std::map<std::size_t, std::size_t> sets, metrics;
  for (const std::size_t index : cells) {
    const GridCell& cell = grid_.cells.at(index);
    ++models[grid_.model[cell.model].path];
    if (cell.set) ++sets[*cell.set];
    for (const std::size_t metric : cell.metrics) ++metrics[metric];
  }
  std::vector<MissingInput> all;
  const auto attempt = [&](std::size_t needed, const auto& find) {
    try {
      find();
    } catch (const Error& e) {
      if (e.code() != Exit::missing) throw;
      // Draws of one set miss the same files.
      const auto same = std::ranges::find(all, std::string(e.what()), &MissingInput::reason);
      if (same == all.end()) {
        all.push_back({e.what(), needed});
      } else {
        same->cells += needed;
      }
    }
  };
  for (const auto& [path, needed] : models) {
    attempt(needed, [&, &path = path] {
      const fs::path directory = model_directory(path);
      ModelFiles::open(directory);  // config and headers of all files
      load_tokenizer(directory);
    });
  }
  for (const auto& [metric, needed] : metrics) attempt(needed, [&, metric = metric] { source(metric); });
  for (const auto& [set, needed] : sets) attempt(needed, [&, set = set] { require_data(request_of(grid_.set[set])); });
  return all;
}

const MetricSource& GridInputs::source(std::size_t metric) {
  const auto found = sources_.find(metric);
  if (found != sources_.end()) return found->second;
  const GridMetric& m = grid_.metrics.at(metric);
  const MetricSource& source = sources_.emplace(metric, read_metric_source(m, paths_)).first->second;
  digests_.remember(metric_request(m), paths_.data, Json::array(), {{"sha256", source.sha256}});
  return source;
}

std::shared_ptr<const Tokenizer> GridInputs::tokenizer(std::size_t model) {
  const std::string& path = grid_.model.at(model).path;
  if (!tokenizer_.second || tokenizer_.first != path) tokenizer_ = {path, load_tokenizer(model_directory(model))};
  return tokenizer_.second;
}

Json GridInputs::model_digests(std::size_t model) {
  const GridModel& m = grid_.model.at(model);
  const auto found = models_.find(m.path);
  if (found != models_.end()) return found->second;
  const fs::path directory = model_directory(model);
  std::optional<Json> value = digests_.current(model_request(m), directory);
  if (!value || !value->contains("files_sha256") || !value->contains("tokenizer_sha256")) {
    const Json stamps = InputDigests::stamps_of(regular_files(directory));
    Json list = digest_model(directory);
    value = Json{{"files_sha256", sha256_hex(canonical_json(list))},
                 {"tokenizer_sha256", tokenizer_sha256(*tokenizer(model))},
                 {"files", std::move(list)}};
    digests_.remember(model_request(m), directory, stamps, *value);
  }
  return models_[m.path] = *value;
}

const DrawnWindows& GridInputs::windows(std::size_t model, std::size_t set) {
  if (windows_ && grid_.model[windows_->model].path == grid_.model.at(model).path && windows_->set == set) {
    windows_->model = model;
    return *windows_;
  }
  const GridSet& s = grid_.set.at(set);
  const CalibrationRequest request = request_of(s);
  windows_.reset();
  auto drawn = std::make_unique<DrawnWindows>();
  drawn->model = model;
  drawn->set = set;
  drawn->calibration = build_calibration(request, tokenizer(model).get());
  as_grid_says(drawn->calibration.manifest, s.request.set);
  if (s.order) {
    permute(drawn->calibration.windows, *s.order);
    drawn->calibration.manifest.ids_sha256 = digest_of(drawn->calibration.windows);
    drawn->calibration.manifest.notes.push_back(fmt::format("windows permuted with seed {}", *s.order));
  }
  windows_ = std::move(drawn);
  return *windows_;
}

std::string GridInputs::ids_sha256(std::size_t model, std::size_t set, const std::string& tokenizer_sha256) {
  const Json request = set_request(grid_.set.at(set), tokenizer_sha256);
  const auto known = digests_.current(request, paths_.data);
  if (known && known->value("ids_sha256", Json()).is_string()) return known->at("ids_sha256").get<std::string>();
  const CalibrationManifest& m = windows(model, set).calibration.manifest;
  digests_.remember(request, paths_.data,
                    InputDigests::stamps_of(sources_of(m, paths_.data, request_of(grid_.set.at(set)).set)),
                    {{"ids_sha256", m.ids_sha256}, {"windows", m.windows}, {"tokens", m.tokens}});
  return m.ids_sha256;
}

CellInputs GridInputs::inputs(const GridCell& cell) {
  CellInputs inputs;
  inputs.backend = settings_.backend;
  inputs.dtype = compute_type(grid_, grid_.model.at(cell.model), settings_);
  const Json model = model_digests(cell.model);
  inputs.model_sha256 = model.at("files_sha256").get<std::string>();
  inputs.tokenizer_sha256 = model.at("tokenizer_sha256").get<std::string>();
  if (cell.set) inputs.ids_sha256 = ids_sha256(cell.model, *cell.set, inputs.tokenizer_sha256);
  for (const std::size_t metric : cell.metrics) inputs.metric_sha256.push_back(source(metric).sha256);
  return inputs;
}

}  // namespace ptq

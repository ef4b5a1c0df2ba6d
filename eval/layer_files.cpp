#include "eval/layer_files.h"

#include "data/corpora.h"
#include "host/files.h"

namespace ptq {

namespace fs = std::filesystem;
using Json = nlohmann::json;

namespace {

constexpr const char* state_name = "state.json";

constexpr const char* state_format = "ptq layers 1";

// Everything that a result is made from is checked when it is read again.
Json file_json(const fs::path& directory, const std::string& name) {
  return {{"name", name}, {"sha256", sha256_file(directory / name)}};
}

std::shared_ptr<const Checkpoint> open_file(const fs::path& directory, const Json& file) {
  const fs::path path = directory / file.at("name").get<std::string>();
  require(sha256_file(path) == file.at("sha256").get<std::string>(), Exit::data, "{}: changed", path.string());
  return open_safetensors(path);
}

std::string stream_name(std::size_t index) { return fmt::format("h.{:06}", index); }

// What the report holds of the layers that are done; see to_json in quant/quantize.h.
Json to_state(const QuantizeReport& report) {
  Json json = to_json(report);
  for (std::size_t i = 0; i < report.linears.size(); ++i) {
    json["linears"][i]["layer"] = report.linears[i].layer;
    json["linears"][i]["role"] = static_cast<int>(report.linears[i].role);
  }
  return json;
}

LinearHealth health_of(const Json& json) {
  LinearHealth h;
  h.module = json.at("module").get<std::string>();
  h.layer = json.at("layer").get<int>();
  h.role = static_cast<LinearRole>(json.at("role").get<int>());
  h.error = json.at("error").get<double>();
  h.relative_error = json.at("relative_error").get<double>();
  h.damp = json.at("damp").get<double>();
  h.dead_columns = json.at("dead_columns").get<std::int64_t>();
  h.retries = json.at("retries").get<int>();
  h.in_fp64 = json.at("in_fp64").get<bool>();
  h.fell_back = json.at("fell_back").get<bool>();
  return h;
}

QuantizeReport report_of(const Json& json) {
  QuantizeReport report;
  for (const Json& linear : json.at("linears")) report.linears.push_back(health_of(linear));
  for (const Json& search : json.value("awq", Json::array())) {
    AwqSearch& s = report.awq.emplace_back();
    s.prev = search.at("prev").get<std::string>();
    s.layers = search.at("layers").get<std::vector<std::string>>();
    s.best_ratio = search.at("best_ratio").get<double>();
    s.loss = search.at("loss").get<std::vector<double>>();
    s.dead_columns = search.at("dead_columns").get<std::int64_t>();
  }
  return report;
}

}  // namespace

LayerFiles::LayerFiles(PartialCell& partial, double seconds, TensorOverlay& overlay)
    : partial_(partial),
      directory_(partial.directory()),
      seconds_(seconds),
      last_(steady_seconds()),
      overlay_(overlay) {}

void LayerFiles::put(const std::string& name, const Tensor& value) {
  overlay_.put(name, value);
  pending_[name] = value;
}

std::optional<LayerState> LayerFiles::restore() {
  if (!partial_.use_existing() || !present(directory_ / state_name)) return std::nullopt;
  try {
    const Json whole = read_json(directory_ / state_name, "state of a cell");
    const Json& json = whole.at("state");
    require(whole.at("format") == state_format && whole.at("sha256") == sha256_hex(json.dump()), Exit::data,
            "{}: changed", directory_.string());
    LayerState state;
    state.layers = json.at("layers").get<int>();
    state.report = report_of(json.at("report"));
    std::vector<std::shared_ptr<const Checkpoint>> layers;
    for (const Json& file : json.at("files")) layers.push_back(open_file(directory_, file));
    const auto hidden = open_file(directory_, json.at("hidden"));
    for (const auto& [name, info] : hidden->tensors()) state.h.push_back(hidden->read(name, info.dtype));
    for (const auto& file : layers) overlay_.put_all(file);
    files_ = json.at("files");
    kept_ = state.layers;
    return state;
  } catch (const Json::exception&) {
    return std::nullopt;  // of another version: the cell starts again
  } catch (const Error& e) {
    if (e.code() != Exit::data && e.code() != Exit::missing) throw;
    return std::nullopt;
  }
}

void LayerFiles::save(int layers, std::span<const Stream> streams, Ops& ops, const QuantizeReport& report) {
  if (steady_seconds() - last_ < seconds_ || !partial_.use()) return;
  const std::string changed = fmt::format("layers-{}-{}.safetensors", kept_, layers);
  const std::string hidden = fmt::format("hidden-{}.safetensors", layers);
  write_safetensors(directory_ / changed, pending_);
  std::map<std::string, Tensor> h;
  for (std::size_t i = 0; i < streams.size(); ++i) h[stream_name(i)] = ops.to_host(streams[i].h);
  write_safetensors(directory_ / hidden, h);
  files_.push_back(file_json(directory_, changed));
  const Json state = {
      {"layers", layers}, {"files", files_}, {"hidden", file_json(directory_, hidden)}, {"report", to_state(report)}};
  write_file(directory_ / state_name,
             Json{{"format", state_format}, {"sha256", sha256_hex(state.dump())}, {"state", state}}.dump() + "\n");

  std::error_code ignored;
  fs::remove(directory_ / fmt::format("hidden-{}.safetensors", kept_), ignored);
  overlay_.put_all(open_safetensors(directory_ / changed));  // gives their memory back
  pending_.clear();
  kept_ = layers;
  last_ = steady_seconds();
}

}  // namespace ptq

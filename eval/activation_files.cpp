#include "eval/activation_files.h"

#include "eval/activation_summary.h"
#include "host/checkpoint.h"
#include "host/files.h"
#include "host/printable.h"
#include "model/json_fields.h"

#include <map>
#include <numeric>
#include <set>

namespace ptq {

namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

constexpr const char* format_name = "ptq activation study 1";
constexpr const char *json_name = "activations.json", *arrays_name = "activations.safetensors";
constexpr std::int64_t most = std::int64_t{1} << 50;  // of anything counted: sums of many studies stay in 63 bits

void put_sums(std::map<std::string, Tensor>& out, const std::string& name, const ActivationSums& s) {
  out[name + ".moments"] = s.moments;
  out[name + ".extremes"] = s.extremes;
  out[name + ".counts"] = s.counts;
  out[name + ".wide_counts"] = s.wide;
}

void put_profile(std::map<std::string, Tensor>& out, const std::string& name, const ActivationSums& s,
                 std::int64_t tokens) {
  const ChannelProfile p = profile_of(s, tokens);
  out[name + ".mean"] = p.mean;
  out[name + ".absmax"] = p.absmax;
  out[name + ".kurtosis"] = p.kurtosis;
  out[name + ".min"] = p.min;
  out[name + ".max"] = p.max;
  out[name + ".counts"] = s.counts;
}

class Reader {
 public:
  Reader(const fs::path& file, const ActivationStudy& study)
      : file_(file.string()), arrays_(open_safetensors(file)), study_(study) {}

  ActivationSums sums(const std::string& name, std::int64_t channels, std::int64_t tokens) const {
    const std::int64_t layers = study_.layers;
    const Shape counts{layers, study_.spec.bins + 2};
    ActivationSums s{read(name + ".moments", DType::f64, {layers, 5, channels}),
                     read(name + ".extremes", DType::f32, {layers, 2, channels}),
                     read(name + ".counts", DType::i64, counts), read(name + ".wide_counts", DType::i64, counts)};
    const Size elements = Size(static_cast<std::uint64_t>(tokens)) * Size(static_cast<std::uint64_t>(channels));
    require_total(name + ".counts", s.counts, elements);
    require_total(name + ".wide_counts", s.wide, elements);
    return s;
  }

 private:
  void require_total(const std::string& name, const Tensor& counts, Size elements) const {
    for (std::int64_t l = 0; l < counts.rows(); ++l) {
      Size sum;
      for (const std::int64_t n : counts.slice_rows(l, l + 1).span<std::int64_t>()) {
        require(n >= 0, Exit::data, "{}: {}: layer {} holds a negative count", file_, name, l);
        sum = sum + Size(static_cast<std::uint64_t>(n));
      }
      require(sum == elements, Exit::data, "{}: {}: layer {} counts {} elements, tokens times channels are {}", file_,
              name, l, sum.value(), elements.value());
    }
  }
  Tensor read(const std::string& name, DType dtype, const Shape& shape) const {
    const auto found = arrays_->tensors().find(name);
    require(found != arrays_->tensors().end(), Exit::data, "{}: no tensor '{}'", file_, name);
    require(found->second.shape == shape && found->second.dtype == dtype, Exit::data, "{}: {} is {} {}, {} {} expected",
            file_, name, name_of(found->second.dtype), to_string(found->second.shape), name_of(dtype),
            to_string(shape));
    return arrays_->read(name, dtype);
  }

  std::string file_;
  std::unique_ptr<Checkpoint> arrays_;
  const ActivationStudy& study_;
};

Json object_or_null(const JsonFields& fields, const char* key) {
  const Json* value = fields.find(key);
  return value == nullptr ? Json() : *value;
}

}  // namespace

std::map<std::string, Tensor> study_arrays(const ActivationStudy& study) {
  std::map<std::string, Tensor> arrays;
  for (std::size_t m = 0; m < study.modules.size(); ++m) {
    const ModuleActivations& module = study.modules[m];
    const std::string name(study_name(studied_roles[m]));
    put_sums(arrays, name + ".first", module.first);
    put_sums(arrays, name + ".rest", module.rest);
    put_profile(arrays, name, module.whole(), study.tokens);
    put_profile(arrays, name + ".without_first", module.rest, study.tokens - study.windows);
  }
  return arrays;
}

Json study_json(const ActivationStudy& study) {
  Json channels;
  for (std::size_t m = 0; m < study.modules.size(); ++m)
    channels[study_name(studied_roles[m])] = study.modules[m].first.channels();
  return {{"side", name_of(study.spec.side)}, {"bins", study.spec.bins},
          {"range", study.spec.range},        {"wide_range", wide_factor * study.spec.range},
          {"layers", study.layers},           {"windows", study.windows},
          {"tokens", study.tokens},           {"channels", std::move(channels)},
          {"summary", summary_json(study)}};
}

void write_study(OutputDirectory& output, const StoredStudy& stored) {
  Json json = stored.about;
  json.update(study_json(stored.study));
  json["format"] = format_name;
  write_safetensors(output.path() / arrays_name, study_arrays(stored.study), {});
  write_file(output.path() / json_name, json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
  output.publish();
}

StoredStudy read_study(const fs::path& directory) {
  const Json json = read_json(directory / json_name, "activation study");
  const JsonFields fields(json, (directory / json_name).string());
  require(fields.text("format", "") == format_name, Exit::data, "{}: not a '{}'", fields.where(), format_name);
  StoredStudy stored;
  ActivationStudy& study = stored.study;
  const std::string side = fields.text("side", "");
  require(side == "output" || side == "input", Exit::data, "{}: side '{}' is neither output nor input", fields.where(),
          printable(side));
  study.spec.side = parse_side(side);
  study.spec.bins = fields.integer("bins", 1, max_histogram_bins);
  study.spec.range = fields.positive("range");
  study.layers = static_cast<int>(fields.integer("layers", 1, 1 << 20));
  study.windows = fields.integer("windows", 1, most);
  study.tokens = fields.integer("tokens", study.windows, most);
  const JsonFields channels = fields.object("channels");
  const Reader reader(directory / arrays_name, study);
  for (std::size_t m = 0; m < study.modules.size(); ++m) {
    const std::string name(study_name(studied_roles[m]));
    const std::int64_t width = channels.integer(name.c_str(), 1, 1 << 24);
    study.modules[m] = {reader.sums(name + ".first", width, study.windows),
                        reader.sums(name + ".rest", width, study.tokens - study.windows)};
  }
  for (const char* key : {"model", "compute", "calibration"}) stored.about[key] = object_or_null(fields, key);
  require(stored.about["calibration"].is_array(), Exit::data, "{}: calibration is not a list", fields.where());
  return stored;
}

StoredStudy merged(const std::vector<StoredStudy>& parts) {
  require(!parts.empty(), Exit::usage, "nothing to merge");
  StoredStudy all = parts.front();
  std::set<std::string> seen;
  for (const StoredStudy& part : parts) {
    for (const Json& manifest : part.about.at("calibration")) {
      require(seen.insert(manifest.dump()).second, Exit::data,
              "studies cannot be merged: a calibration set occurs twice; every window counts once");
    }
    if (&part == &parts.front()) continue;
    for (const char* key : {"model", "compute"}) {
      require(part.about.at(key) == all.about.at(key), Exit::data, "studies cannot be merged: \"{}\" in {} differs",
              key, json_name);
    }
    all.study.merge(part.study);
    for (const Json& manifest : part.about.at("calibration")) all.about["calibration"].push_back(manifest);
  }
  return all;
}

}  // namespace ptq

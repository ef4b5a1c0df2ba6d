#include "quant/fake_checkpoint.h"

#include "host/files.h"
#include "quant/output_directory.h"

#include <array>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

namespace ptq {

namespace fs = std::filesystem;

namespace {

// What a Hugging Face directory holds beside weights and config that a user of the copy needs.
constexpr std::array companion_files{
    "tokenizer.json",      "tokenizer.model",         "tokenizer_config.json", "vocab.json",
    "merges.txt",          "special_tokens_map.json", "added_tokens.json",     "generation_config.json",
    "chat_template.jinja", "chat_template.json"};

struct OutputTypes {
  DType linears, others;
};

OutputTypes output_types(const QuantizeJob& job) {
  const bool coarse = job.spec.method == Method::w8a8 && job.dtype == DType::bf16;
  return {coarse ? DType::f32 : job.dtype, job.dtype};
}

std::set<std::string> linear_tensors(const ModelFiles& files) {
  std::set<std::string> names;
  for (int layer = 0; layer < files.config().layers; ++layer) {
    for (LinearRole role : all_linear_roles) {
      if (files.has_linear(role)) names.insert(files.linear_ref(layer, role).tensor);
    }
  }
  return names;
}

// What the model uses; leftovers (training state, other towers) and integer buffers are not carried along.
std::vector<TensorInfo> output_tensors(const ModelFiles& files, OutputTypes types) {
  const std::set<std::string> leftovers(files.unexpected().begin(), files.unexpected().end());
  const std::set<std::string> linears = linear_tensors(files);
  std::vector<TensorInfo> tensors;
  for (const auto& [name, info] : files.checkpoint().tensors()) {
    const DType dtype = linears.contains(name) ? types.linears : types.others;
    if (is_float(info.dtype) && !leftovers.contains(name)) tensors.push_back({name, dtype, info.shape, {}});
  }
  return tensors;
}

// Streams tensors to the output; rows of fused tensors (Phi-3) are collected until the tensor is whole.
class WeightWriter {
 public:
  WeightWriter(const ModelFiles& files, Ops& ops, const fs::path& file, OutputTypes types)
      : files_(files), ops_(ops), types_(types), writer_(file, output_tensors(files, types)) {}

  void write_unquantized() {
    const std::set<std::string> quantized = linear_tensors(files_);
    for (const TensorInfo& info : output_tensors(files_, types_)) {
      if (quantized.contains(info.name)) continue;
      const Tensor value = files_.checkpoint().read(info.name, info.dtype);
      require_no_overflow(value, info.name);
      writer_.write(info.name, value);
    }
  }

  void write(int layer, LinearRole role, const Tensor& q) {
    const WeightRef ref = files_.linear_ref(layer, role);
    const Shape& shape = files_.checkpoint().tensors().at(ref.tensor).shape;
    const Tensor rows = q.to(types_.linears);
    require_no_overflow(rows, ref.tensor);
    const std::int64_t end = ref.end == -1 ? shape.at(0) : ref.end;
    check(rows.rows() == end - ref.begin, "{} rows for {}", rows.rows(), ref.module);
    if (rows.rows() == shape.at(0)) {
      writer_.write(ref.tensor, rows.reshape(shape));
      return;
    }
    auto& [whole, filled] = fused_[ref.tensor];
    if (!whole) whole = Tensor::empty(types_.linears, shape);
    std::memcpy(whole.slice_rows(ref.begin, end).raw(), rows.raw(), rows.bytes());
    filled += rows.rows();
    if (filled == shape.at(0)) {
      writer_.write(ref.tensor, whole);
      fused_.erase(ref.tensor);
    }
  }

  void finish() { writer_.finish(); }

 private:
  struct Partial {
    Tensor whole;
    std::int64_t filled = 0;
  };

  // float16 ends at 65504; the other types hold whatever a checkpoint holds.
  void require_no_overflow(const Tensor& value, const std::string& name) const {
    if (value.dtype() == DType::f16)
      require_finite(ops_, ops_.to_device(value), name + " in float16 (try --dtype bf16)");
  }

  const ModelFiles& files_;
  Ops& ops_;
  OutputTypes types_;
  SafetensorsWriter writer_;
  std::map<std::string, Partial> fused_;
};

std::uintmax_t output_bytes(const ModelFiles& files, OutputTypes types) {
  std::uintmax_t bytes = 0;
  for (const TensorInfo& t : output_tensors(files, types)) {
    bytes += static_cast<std::uintmax_t>(numel(t.shape)) * size_of(t.dtype);
  }
  return bytes;
}

void copy_companions(const fs::path& from, const fs::path& to, DType dtype) {
  nlohmann::json config = read_json(from / "config.json", "config");
  const char* key = config.contains("dtype") && !config.contains("torch_dtype") ? "dtype" : "torch_dtype";
  config[key] = name_of(dtype);
  if (config.contains("dtype")) config["dtype"] = name_of(dtype);
  write_file(to / "config.json", config.dump(2) + "\n");
  for (const char* name : companion_files) {
    std::error_code error;
    if (fs::is_regular_file(from / name, error)) write_file(to / name, read_file(from / name, "tokenizer file"));
  }
}

nlohmann::json source_of(const ModelFiles& files) {
  nlohmann::json list = nlohmann::json::array();
  list.push_back({{"name", "config.json"}, {"sha256", sha256_file(files.directory() / "config.json")}});
  for (const fs::path& file : files.checkpoint().files()) {
    list.push_back({{"name", file.filename().string()}, {"sha256", sha256_file(file)}});
  }
  std::error_code error;
  const fs::path directory = fs::absolute(files.directory(), error).lexically_normal();
  return {{"name", (directory.has_filename() ? directory : directory.parent_path()).filename().string()},
          {"files", std::move(list)}};
}

void require_apart(const fs::path& model, const fs::path& output) {
  std::error_code error;
  const fs::path source = fs::weakly_canonical(model, error), target = fs::weakly_canonical(output, error);
  const fs::path relative = source.lexically_relative(target);
  require(relative.empty() || *relative.begin() == "..", Exit::usage,
          "{}: the output would replace the model it is made from; choose another directory", output.string());
}

}  // namespace

QuantizeReport quantize_checkpoint(Ops& ops, const QuantizeJob& job, std::span<const Window> windows,
                                   const nlohmann::json& manifest, const ProgressFn& progress) {
  validate(job.spec);
  require_apart(job.model, job.output);
  const auto files = std::make_shared<const ModelFiles>(ModelFiles::open(job.model));
  OutputDirectory output(job.output, job.force, output_bytes(*files, output_types(job)));

  double copying = 0.0;
  std::optional<WeightWriter> writer;
  timed(ops, copying, [&] {
    copy_companions(job.model, output.path(), job.dtype);
    writer.emplace(*files, ops, output.path() / "model.safetensors", output_types(job));
    writer->write_unquantized();
  });
  const LinearSink sink = [&](int layer, LinearRole role, const QuantizedMatrix& m) {
    writer->write(layer, role, m.q);
  };
  QuantizeReport report = quantize_linears(files, ops, job.spec, job.dtype, windows, sink, progress);

  nlohmann::json source;
  timed(ops, copying, [&] {
    writer->finish();
    source = source_of(*files);
  });
  report.seconds.write += copying;

  nlohmann::json card{{"format", "fake"},
                      {"scheme", scheme_name(job.spec)},
                      {"method", name_of(job.spec.method)},
                      {"parameters", to_json(job.spec)},
                      {"activations", nullptr},
                      {"dtype", name_of(job.dtype)},
                      {"source", std::move(source)},
                      {"calibration", manifest},
                      {"backend", ops.description()}};
  if (job.spec.method == Method::w8a8) card["activations"] = {{"bits", 8}, {"granularity", "per-token"}};
  card.update(to_json(report));
  write_file(output.path() / card_name, card.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  output.publish();
  return report;
}

bool activations_int8(const fs::path& directory) {
  const fs::path path = directory / card_name;
  std::error_code error;
  if (!fs::exists(path, error)) return false;
  const nlohmann::json card = read_json(path, "provenance card");
  const std::string origin = path.string();
  require(card.is_object(), Exit::data, "{}: not a JSON object", origin);
  const auto it = card.find("activations");
  if (it == card.end() || it->is_null()) return false;
  const bool known = it->is_object() && it->value("bits", nlohmann::json()) == 8 &&
                     it->value("granularity", nlohmann::json()) == "per-token";
  require(known, Exit::data, "{}: activations are neither null nor 8 bits per token", origin);
  return true;
}

}  // namespace ptq

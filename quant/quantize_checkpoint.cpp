#include "quant/quantize_checkpoint.h"

#include "model/activation_card.h"
#include "quant/checkpoint_files.h"
#include "quant/checkpoint_writer.h"
#include "quant/output_directory.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

namespace ptq {

namespace {

std::unique_ptr<LinearStore> make_store(const QuantizeJob& job, const PackedConfig& packed) {
  const DType floats = float_type(job.format, job.dtype);
  return packed ? make_packed_store(packed, floats) : make_float_store(linear_type(job.spec, floats));
}

// The report's linears with what storing them added.
nlohmann::json health_json(const QuantizeReport& report, const std::map<std::string, double>& storage_errors) {
  nlohmann::json json = to_json(report);
  double largest = 0.0;
  for (nlohmann::json& linear : json.at("linears")) {
    const double error = storage_errors.at(linear.at("module").get<std::string>());
    linear["storage_error"] = error;
    largest = std::max(largest, error);
  }
  json.at("summary")["largest_storage_error"] = largest;
  return json;
}

}  // namespace

QuantizeReport quantize_checkpoint(Ops& ops, const QuantizeJob& job, std::span<const Window> windows,
                                   const nlohmann::json& manifest, const ProgressFn& progress) {
  validate(job.spec);
  require_apart(job.model, job.output);
  const auto files = std::make_shared<const ModelFiles>(ModelFiles::open(job.model));
  require(!files->packed(), Exit::data, "{}: it is quantized already ({}); quantize the model that it was made from",
          job.model.string(), name_of(files->packed().format));
  const PackedConfig packed = packed_config_of(job.format, job.spec, *files);
  const DType floats = float_type(job.format, job.dtype);
  auto store = make_store(job, packed);
  OutputDirectory output(job.output, job.force, CheckpointWriter::bytes(*files, *store, floats));

  double copying = 0.0;
  std::optional<CheckpointWriter> writer;
  timed(ops, copying, [&] {
    copy_companions(job.model, output.path(), floats, packed ? quantization_config(packed, job.spec) : nullptr);
    writer.emplace(*files, ops, output.path() / "model.safetensors", std::move(store), floats);
  });
  std::map<std::string, double> storage_errors;  // by module
  QuantSink sink;
  sink.linear = [&](int layer, LinearRole role, const QuantizedMatrix& m) {
    storage_errors[files->linear_ref(layer, role).module] = writer->linear(layer, role, m);
  };
  sink.folded = [&](int layer, const BlockWeights& block) { writer->folded(layer, block); };
  QuantizeReport report = quantize_linears(files, ops, job.spec, job.dtype, windows, sink, progress);

  nlohmann::json source;
  timed(ops, copying, [&] {
    writer->finish();
    source = source_of(*files);
  });
  report.seconds.write += copying;

  nlohmann::json card{
      {"format", name_of(job.format)},   {"scheme", scheme_name(job.spec)}, {"method", name_of(job.spec.method)},
      {"parameters", to_json(job.spec)}, {"dtype", name_of(floats)},        {"compute_dtype", name_of(job.dtype)},
      {"source", std::move(source)},     {"calibration", manifest},         {"backend", ops.description()}};
  card.update(health_json(report, storage_errors));
  card["activations"] = to_json(report.activations);
  write_card(output.path(), card);
  output.publish();
  return report;
}

}  // namespace ptq

#include "quant/inject_checkpoint.h"

#include "quant/checkpoint_files.h"
#include "quant/checkpoint_writer.h"
#include "quant/output_directory.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

namespace ptq {

namespace {

using Json = nlohmann::json;

// The one type of the linears, or of everything else, in the source; f32 if there are several.
DType stored_type(const ModelFiles& files, bool linears) {
  const std::set<std::string> names = linear_tensors(files);
  std::set<DType> types;
  for (const auto& [name, info] : files.checkpoint().tensors()) {
    if (is_float(info.dtype) && names.contains(name) == linears) types.insert(info.dtype);
  }
  const DType only = types.size() == 1 ? *types.begin() : DType::f32;
  return only == DType::f64 ? DType::f32 : only;
}

bool survives(const Tensor& t, DType stored) {
  if (!t) return true;
  const Tensor back = t.to(stored).to(DType::f32);
  const auto a = t.span<float>(), b = back.span<float>();
  return std::equal(a.begin(), a.end(), b.begin());
}

// Every value is what it was, or S times as large or small, without rounding. `base`: 1 for gains stored as gain - 1.
bool scaled_exactly(const Tensor& before, const Tensor& after, float scale, float base = 0.0f) {
  if (!before) return true;
  const auto a = before.span<float>(), b = after.span<float>();
  return std::equal(a.begin(), a.end(), b.begin(), [&](float x, float y) {
    return x == y || base + y == scale * (base + x) || base + x == scale * (base + y);
  });
}

bool power_of_two(float x) {
  int exponent = 0;
  return std::frexp(x, &exponent) == 0.5f;
}

Json card_of(const InjectReport& report, const ModelFiles& files, const InjectJob& job) {
  const InjectSpec& spec = job.spec;
  Json at = Json::array(), layers = Json::array(), skipped = Json::array();
  for (InjectPlace place : spec.places) at.push_back(name_of(place));
  for (std::size_t layer = 0; layer < report.plan.layers.size(); ++layer) {
    Json entry = {{"layer", layer}};
    for (const InjectedChannels& c : report.plan.layers[layer]) entry[name_of(c.place)] = c.channels;
    if (entry.size() > 1) layers.push_back(std::move(entry));
  }
  for (const auto& [place, reason] : report.plan.skipped)
    skipped.push_back({{"place", name_of(place)}, {"reason", reason}});
  return {{"method", "inject-outliers"},
          {"parameters",
           {{"at", std::move(at)},
            {"channels", spec.channels},
            {"scale", spec.scale},
            {"offset", spec.offset},
            {"seed", spec.seed}}},
          {"injected", std::move(layers)},
          {"skipped", std::move(skipped)},
          {"exact", report.exact},
          {"largest_storage_error", report.largest_storage_error},
          {"dtype", name_of(report.dtype)},
          {"source", source_of(files)}};
}

}  // namespace

InjectReport inject_checkpoint(Ops& ops, const InjectJob& job, const ProgressFn& progress) {
  require_apart(job.model, job.output);
  const ModelFiles files = ModelFiles::open(job.model);
  const std::string model = job.model.string();
  require(!files.packed(), Exit::data, "{}: it is quantized already; inject into the model that it was made from",
          model);
  require(!files.activations(), Exit::data,
          "{}: it asks for quantized activations; inject into the model that it was made from", model);
  const ModelConfig& config = files.config();
  InjectReport report;
  report.plan = plan_injection(config, job.spec);
  report.dtype = job.dtype.value_or(stored_type(files, true));
  const DType others = job.dtype.value_or(stored_type(files, false));
  report.exact = power_of_two(job.spec.scale) && job.spec.offset == 0.0f;

  auto store = make_float_store(report.dtype);
  OutputDirectory output(job.output, job.force, CheckpointWriter::bytes(files, *store, others));
  copy_companions(job.model, output.path(), report.dtype, nullptr);
  CheckpointWriter writer(files, ops, output.path() / "model.safetensors", std::move(store), others);
  for (int layer = 0; layer < config.layers; ++layer) {
    const BlockWeights before = load_block_weights(files, layer);
    BlockWeights block = load_block_weights(files, layer);
    inject(block, config, report.plan, layer);
    for (LinearRole role : all_linear_roles) {
      if (!files.has_linear(role)) continue;
      QuantizedMatrix matrix;
      matrix.q = block[role];
      report.largest_storage_error = std::max(report.largest_storage_error, writer.linear(layer, role, matrix));
    }
    writer.folded(layer, block);
    const auto exact = [&](const auto& was, const auto& is, float base, DType stored) {
      for (std::size_t i = 0; i < was.size(); ++i) {
        report.exact = report.exact && scaled_exactly(was[i], is[i], job.spec.scale, base) && survives(is[i], stored);
      }
    };
    exact(before.weight, block.weight, 0.0f, report.dtype);
    exact(before.bias, block.bias, 0.0f, others);
    exact(before.norm_weight, block.norm_weight, config.norm.one_plus_weight ? 1.0f : 0.0f, others);
    exact(before.norm_bias, block.norm_bias, 0.0f, others);
    if (progress) progress(fmt::format("layer {}/{}", layer + 1, config.layers), layer + 1, config.layers);
  }
  writer.finish();
  write_card(output.path(), card_of(report, files, job));
  output.publish();
  return report;
}

}  // namespace ptq

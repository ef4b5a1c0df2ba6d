#include "cli/model_options.h"

#include "host/files.h"
#include "model/activation_card.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace ptq {

void add_model_options(CLI::App& command, ModelOptions& options) {
  command.add_option("MODEL", options.model, "model directory")->required();
  command
      .add_option("--products", options.products,
                  "quantized activations times integer weights: exact (integers) or fake (their floating-point values)")
      ->check(CLI::IsMember({"exact", "fake"}))
      ->capture_default_str();
}

std::unique_ptr<Transformer> load_model(const std::filesystem::path& directory, const std::string& products, Ops& ops,
                                        DType compute, const RunSize& run) {
  auto files = std::make_shared<const ModelFiles>(ModelFiles::open(directory));
  auto model = std::make_unique<Transformer>(files, ops, compute);
  model->set_activations(files->activations(), products == "fake" ? IntegerProducts::fake : IntegerProducts::exact);
  model->load_all(run);
  constexpr double mib = 1 << 20;
  if (model->streamed()) {
    fmt::print(stderr, "weights: streamed, 2 of {} blocks on the device at a time, {:.1f} of {:.1f} MiB\n",
               model->config().layers, static_cast<double>(model->device_weight_bytes()) / mib,
               static_cast<double>(model->weight_bytes()) / mib);
  }
  return model;
}

RunSize one_by_one(std::span<const std::vector<std::int32_t>> sequences) {
  std::int64_t longest = 0;
  for (const auto& ids : sequences) longest = std::max(longest, static_cast<std::int64_t>(ids.size()));
  return {.tokens = longest, .logits = longest};
}

nlohmann::ordered_json cost_json(const Transformer& model) {
  nlohmann::ordered_json cost = {{"bits_per_weight", model.linear_memory().bits_per_weight()},
                                 {"weight_bytes", model.weight_bytes()},
                                 {"peak_memory_bytes", peak_memory()}};
  if (model.streamed()) cost["device_weight_bytes"] = model.device_weight_bytes();
  const nlohmann::json card = read_card(model.files().directory());
  if (card.is_null()) return cost;
  const auto field = [&](const char* pointer) -> nlohmann::json {
    const nlohmann::json::json_pointer at(pointer);
    return card.contains(at) ? card.at(at) : nlohmann::json();
  };
  if (const auto scheme = field("/scheme"); scheme.is_string()) cost["scheme"] = scheme;
  if (const auto bits = field("/summary/bits_per_weight"); bits.is_number()) cost["scheme_bits_per_weight"] = bits;
  return cost;
}

std::string activations_name(const Transformer& model) {
  const ActivationQuant& a = model.activations();
  if (!a) return std::string(name_of(model.compute_dtype()));
  if (a.kind == ActivationKind::nf4) return "nf4";
  const std::string range = a.range == ActivationRange::token      ? "per token"
                            : a.range == ActivationRange::sequence ? "per sequence"
                                                                   : "calibrated";
  std::string name = fmt::format("int{} {}", a.bits, range);
  if (a.bmm) name += ", bmm";
  if (a.outlier_threshold > 0) name += fmt::format(", outliers from {}", a.outlier_threshold);
  return name;
}

}  // namespace ptq

#include "cli/options.h"

#include "model/activation_card.h"
#include "model/tokenizer.h"
#include "model/weight_names.h"

#include <nlohmann/json.hpp>

#include <map>

namespace ptq {

namespace {

struct Summary {
  std::uint64_t file_bytes = 0;
  std::map<std::string, std::int64_t> tensors_by_dtype;
};

Summary summarise(const ModelFiles& files) {
  Summary s;
  for (const auto& [name, info] : files.checkpoint().tensors()) ++s.tensors_by_dtype[std::string(name_of(info.dtype))];
  for (const auto& path : files.checkpoint().files()) s.file_bytes += std::filesystem::file_size(path);
  return s;
}

// Weights that evaluation keeps resident: floats in the compute type, packed linears about as they are stored. Of the
// embedding rows are read as needed, unless it is the head too.
std::uint64_t resident_bytes(const ModelFiles& files, DType compute) {
  const ModelConfig& c = files.config();
  std::int64_t floats = files.parameters() - (c.tied_head ? 0 : c.vocab * c.embed_width);
  std::uint64_t packed = 0;
  for (int layer = 0; layer < c.layers; ++layer) {
    for (LinearRole role : all_linear_roles) {
      if (!files.has_linear(role) || !files.is_packed(layer, role)) continue;
      const Shape shape = linear_shape(c, role);
      const std::int64_t columns = files.packed().group == -1 ? shape[1] : files.packed().group;
      const std::int64_t scales = numel(shape) / columns;
      floats -= numel(shape);
      packed += static_cast<std::uint64_t>(numel(shape) * (files.packed().bits <= 4 ? 4 : 8) / 8 + 8 * scales);
    }
  }
  return static_cast<std::uint64_t>(floats) * size_of(compute) + packed;
}

std::string describe_weights(const PackedConfig& c) {
  if (!c) return "floats";
  return fmt::format("{}, {} bits, {}, {}{}", name_of(c.format), c.bits,
                     c.group == -1 ? "whole rows" : fmt::format("groups of {}", c.group),
                     c.symmetric ? "symmetric" : "asymmetric", c.act_order ? ", act-order" : "");
}

std::string describe_tokenizer(const std::filesystem::path& directory) {
  try {
    return load_tokenizer(directory)->description();
  } catch (const Error& e) {
    if (e.code() == Exit::missing) return "none";
    throw;
  }
}

void run(const std::string& model, const GlobalOptions& global, bool json) {
  const ModelFiles files = ModelFiles::open(resolve_model(model));
  const ModelConfig& c = files.config();
  const Summary s = summarise(files);
  const std::uint64_t resident = resident_bytes(files, global.compute_dtype());
  const std::string tokenizer = describe_tokenizer(files.directory());
  const nlohmann::ordered_json report = {
      {"directory", files.directory().string()},
      {"family", c.family},
      {"layers", c.layers},
      {"width", c.width},
      {"ffn", c.ffn},
      {"heads", c.heads},
      {"kv_heads", c.kv_heads},
      {"head_dim", c.head_dim},
      {"vocab", c.vocab},
      {"max_position", c.max_position},
      {"tied_head", c.tied_head},
      {"parameters", files.parameters()},
      {"weights", describe_weights(files.packed())},
      {"activations", to_json(files.activations())},
      {"tensors", s.tensors_by_dtype},
      {"file_bytes", s.file_bytes},
      {"weights_bytes_" + global.dtype, resident},
      {"tokenizer", tokenizer},
      {"ignored_tensors", files.unexpected()},
  };
  if (json) {
    fmt::print("{}\n", report.dump(2));
    return;
  }
  for (const auto& [key, value] : report.items())
    fmt::print("{:<20} {}\n", key, value.is_string() ? value.get<std::string>() : value.dump());
}

}  // namespace

void add_inspect(CLI::App& app, GlobalOptions& global) {
  auto* command = app.add_subcommand("inspect", "Family, sizes, tensors, tokenizer and predicted memory of a model");
  command->footer(
      "Example: ptq inspect models/SmolLM2-135M --json\nValidates config, tensor names, shapes and tokenizer without "
      "computing.");
  auto model = std::make_shared<std::string>();
  auto json = std::make_shared<bool>(false);
  command->add_option("MODEL", *model, "model directory")->required();
  command->add_flag("--json", *json, "JSON on standard output");
  command->callback([=, &global] { run(*model, global, *json); });
}

}  // namespace ptq

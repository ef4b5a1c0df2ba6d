#include "cli/options.h"

#include "model/tokenizer.h"
#include "model/weights.h"

#include <nlohmann/json.hpp>

#include <map>

namespace ptq {

namespace {

struct Summary {
  std::int64_t parameters = 0;
  std::uint64_t file_bytes = 0;
  std::map<std::string, std::int64_t> tensors_by_dtype;
};

Summary summarise(const ModelFiles& files) {
  Summary s;
  for (const auto& [name, info] : files.checkpoint().tensors()) {
    s.parameters += numel(info.shape);
    ++s.tensors_by_dtype[std::string(name_of(info.dtype))];
  }
  for (const auto& path : files.checkpoint().files()) s.file_bytes += std::filesystem::file_size(path);
  return s;
}

// Weights that evaluation keeps resident: everything but the embedding, of which rows are read as needed; a tied
// head is resident.
std::uint64_t resident_bytes(const ModelFiles& files, const Summary& s, DType compute) {
  const ModelConfig& c = files.config();
  const auto embedding = c.vocab * c.embed_width;
  const auto stored_head = files.checkpoint().tensors().count("lm_head.weight") != 0;
  const auto unused = c.tied_head ? (stored_head ? embedding : 0) : embedding;
  return static_cast<std::uint64_t>(s.parameters - unused) * size_of(compute);
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
  const std::uint64_t resident = resident_bytes(files, s, global.compute_dtype());
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
      {"parameters", s.parameters},
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

#include "quant/checkpoint_files.h"

#include "host/files.h"
#include "model/activation_card.h"

#include <array>
#include <nlohmann/json.hpp>

namespace ptq {

namespace fs = std::filesystem;

namespace {

// What a Hugging Face directory holds beside weights and config that a user of the copy needs.
constexpr std::array companion_files{
    "tokenizer.json",      "tokenizer.model",         "tokenizer_config.json", "vocab.json",
    "merges.txt",          "special_tokens_map.json", "added_tokens.json",     "generation_config.json",
    "chat_template.jinja", "chat_template.json"};

}  // namespace

void copy_companions(const fs::path& from, const fs::path& to, DType dtype, const nlohmann::json& quantization) {
  nlohmann::json config = read_json(from / "config.json", "config");
  const char* key = config.contains("dtype") && !config.contains("torch_dtype") ? "dtype" : "torch_dtype";
  config[key] = name_of(dtype);
  if (config.contains("dtype")) config["dtype"] = name_of(dtype);
  if (!quantization.is_null()) {
    config["quantization_config"] = quantization;
    // AutoGPTQ reads its parameters from a file of their own.
    if (quantization.at("quant_method") == "gptq") {
      write_file(to / "quantize_config.json", quantization.dump(2) + "\n");
    }
  }
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

std::set<std::string> linear_tensors(const ModelFiles& files) {
  std::set<std::string> names;
  for (int layer = 0; layer < files.config().layers; ++layer) {
    for (LinearRole role : all_linear_roles) {
      if (files.has_linear(role)) names.insert(files.linear_ref(layer, role).tensor);
    }
  }
  return names;
}

void write_card(const fs::path& directory, const nlohmann::json& card) {
  write_file(directory / card_name, card.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

void require_apart(const fs::path& model, const fs::path& output) {
  std::error_code error;
  const fs::path source = fs::weakly_canonical(model, error), target = fs::weakly_canonical(output, error);
  const fs::path relative = source.lexically_relative(target);
  require(relative.empty() || *relative.begin() == "..", Exit::usage,
          "{}: the output would replace the model it is made from; choose another directory", output.string());
}

}  // namespace ptq

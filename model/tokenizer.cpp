#include "model/tokenizer.h"

#include "host/error.h"
#include "host/files.h"
#include "model/hf_formats.h"
#include "model/sentencepiece_check.h"
#include "model/sentencepiece_tokenizer.h"
#include "model/tokenizer_config.h"

namespace ptq {

std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& directory) {
  const auto has = [&](const char* name) {
    std::error_code error;
    return std::filesystem::exists(directory / name, error);
  };
  const TokenizerConfig config = read_tokenizer_config(directory);
  if (has("tokenizer.json")) return load_tokenizer_json(directory / "tokenizer.json", config);
  if (has("tokenizer.model")) {
    const std::filesystem::path path = directory / "tokenizer.model";
    const std::string bytes = read_file(path, "tokenizer", Size(std::uint64_t{64} << 20));
    return looks_like_sentencepiece(bytes) ? make_sentencepiece_tokenizer(bytes, path.string(), config)
                                           : make_tiktoken_tokenizer(bytes, path.string(), config);
  }
  if (has("vocab.json") && has("merges.txt")) return load_gpt2_tokenizer(directory, config);
  fail(Exit::missing, "{}: no tokenizer (tokenizer.json, tokenizer.model, or vocab.json with merges.txt)",
       directory.string());
}

}  // namespace ptq

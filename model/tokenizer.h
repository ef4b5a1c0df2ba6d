// Text to token ids and back, for the tokenizer files that models ship: SentencePiece tokenizer.model, Hugging Face
// tokenizer.json (byte-level BPE), vocab.json + merges.txt, tiktoken-style tokenizer.model (Llama-3).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ptq {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Content ids without BOS or EOS. `text` is UTF-8; malformed bytes become U+FFFD, one for each maximal ill-formed
  // part. Literal special tokens in the text become their ids where the family's default does so.
  virtual std::vector<std::int32_t> encode(std::string_view text) const = 0;
  virtual std::string decode(std::span<const std::int32_t> ids) const = 0;

  virtual std::int64_t vocab_size() const = 0;  // ids are below this
  // Ids that the tokenizer itself adds in front by default (BOS), empty if none.
  virtual std::vector<std::int32_t> prefix() const = 0;
  virtual std::int32_t bos() const = 0;  // -1: none
  virtual std::int32_t eos() const = 0;
  virtual std::string description() const = 0;  // "sentencepiece BPE, 32000 pieces, legacy"
};

// Lookup order: tokenizer.json, tokenizer.model, vocab.json + merges.txt; tokenizer_config.json and
// special_tokens_map.json refine it. Exit 66 if there is none, 65 malformed.
std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& directory);

}  // namespace ptq

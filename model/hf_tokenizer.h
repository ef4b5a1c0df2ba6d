// The pipeline of the Hugging Face `tokenizers` library: added tokens, normalizer, pre-tokenizer, BPE, decoder. The
// loaders of hf_formats.h put it together.
#pragma once

#include "model/added_tokens.h"
#include "model/bpe_model.h"
#include "model/hf_decoder.h"
#include "model/hf_normalizer.h"
#include "model/pretokenize.h"
#include "model/tokenizer.h"
#include "model/tokenizer_config.h"

#include <map>

namespace ptq {

class HfTokenizer : public Tokenizer {
 public:
  HfTokenizer(Normalizer normalizer, PreTokenizer pre_tokenizer, BpeModel model, TokenDecoder decoder,
              const std::vector<AddedToken>& added);

  // Names an id that is not found in text, for decoding and as BOS or EOS.
  void name(std::int32_t id, std::string text);

  // BOS, EOS and what goes in front: `prefix` (a post-processor's), unless the configuration's add_bos_token overrules
  // it. Exit 65 with `origin` for ids that do not exist.
  void set_specials(const TokenizerConfig& config, std::vector<std::int32_t> prefix, const std::string& origin);

  std::vector<std::int32_t> encode(std::string_view bytes) const override;
  std::string decode(std::span<const std::int32_t> ids) const override;
  std::int64_t vocab_size() const override { return size_; }
  std::vector<std::int32_t> prefix() const override { return prefix_; }
  std::int32_t bos() const override { return bos_; }
  std::int32_t eos() const override { return eos_; }
  std::string description() const override;

 private:
  std::int32_t find(const std::string& text) const;

  Normalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  BpeModel model_;
  TokenDecoder decoder_;
  AddedTokens raw_added_, normalized_added_;
  std::map<std::int32_t, std::string> names_;  // of added tokens
  std::int64_t size_;
  std::vector<std::int32_t> prefix_;
  std::int32_t bos_ = -1, eos_ = -1;
};

}  // namespace ptq

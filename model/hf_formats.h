// The files that become an HfTokenizer.
#pragma once

#include "model/tokenizer.h"
#include "model/tokenizer_config.h"

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace ptq {

// tokenizer.json. Exit 65 if it is malformed or asks for something that is not supported, by name.
std::unique_ptr<Tokenizer> load_tokenizer_json(const std::filesystem::path& path, const TokenizerConfig& config);

// vocab.json + merges.txt, as GPT-2 and OPT ship: byte-level BPE with GPT-2's pattern. Special tokens are those of the
// configuration; without any they are OPT's (</s> and <pad>, BOS </s>) if the vocabulary begins like fairseq's
// (<s> 0, <pad> 1, </s> 2), else <|endoftext|> without BOS.
std::unique_ptr<Tokenizer> load_gpt2_tokenizer(const std::filesystem::path& directory, const TokenizerConfig& config);

// tokenizer.model of Llama-3: tiktoken ranks, Llama-3's pattern and 256 special ids after the ranks (BOS, end of text,
// ...). Special strings in the text are plain text unless the configuration lists them.
std::unique_ptr<Tokenizer> make_tiktoken_tokenizer(std::string_view bytes, const std::string& origin,
                                                   const TokenizerConfig& config);

}  // namespace ptq

// tokenizer.json as data: vocabulary and merges, which are most of the file, are read straight into their tables; the
// rest is a small JSON tree.
#pragma once

#include "model/bpe_model.h"
#include "model/vocabulary.h"

#include <filesystem>
#include <nlohmann/json.hpp>

namespace ptq {

struct TokenizerJson {
  nlohmann::json rest;  // without model.vocab and model.merges
  Vocabulary vocabulary;
  MergeList merges;
};

// Exit 66 missing, 65 malformed (file and byte).
TokenizerJson read_tokenizer_json(const std::filesystem::path& path);

// vocab.json: one object of token strings and ids.
Vocabulary read_vocab_json(const std::filesystem::path& path);

// merges.txt: one merge a line, the parts separated by a space; a first line "#version ..." is skipped.
MergeList read_merges_txt(const std::filesystem::path& path);

}  // namespace ptq

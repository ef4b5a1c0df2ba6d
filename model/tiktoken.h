// tiktoken's file format: lines of a token in base64 and its rank. Merges are not listed: two neighbours merge if their
// concatenation is a token, that of the lowest rank first.
#pragma once

#include "model/bpe_model.h"
#include "model/vocabulary.h"

#include <string>
#include <string_view>

namespace ptq {

struct TiktokenFile {
  Vocabulary vocabulary;  // spelled in the byte alphabet, ids are ranks
  MergeList merges;       // every way to make a token of two
};

// Exit 65 malformed (file and line).
TiktokenFile read_tiktoken(std::string_view bytes, const std::string& origin);

// Llama-3's reserved ids, counted from the number of ranks, and their names.
inline constexpr std::int32_t llama3_specials = 256;
std::string llama3_special(std::int32_t index);

}  // namespace ptq

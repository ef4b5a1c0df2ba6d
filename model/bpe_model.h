// The BPE model of a tokenizer.json or of vocab.json + merges.txt: vocabulary, merges and what happens to characters
// that the vocabulary lacks.
#pragma once

#include "model/bpe.h"
#include "model/vocabulary.h"

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ptq {

// Merges in order of rank, as pairs of token strings in one buffer.
class MergeList {
 public:
  void add(std::string_view left, std::string_view right);
  std::size_t size() const { return ends_.size() / 2; }
  std::pair<std::string_view, std::string_view> operator[](std::size_t rank) const;

 private:
  std::string bytes_;
  std::vector<std::uint32_t> ends_;
};

struct BpeOptions {
  std::int32_t unknown = -1;    // id for unknown characters; none: they vanish
  bool fuse_unknown = false;    // neighbouring unknown characters become one
  bool byte_fallback = false;   // unknown characters become the tokens <0xXX> of their bytes, if all of those exist
  bool ignore_merges = false;   // a piece that is a token is that token, whatever the merges say
  bool byte_level = false;      // tokens are spelled in the byte alphabet
  bool rank_by_result = false;  // merges rank by the id of their result (tiktoken), not by their order
};

class BpeModel {
 public:
  // Exit 65 for a merge whose parts or result are not in the vocabulary; `origin` names the file.
  BpeModel(Vocabulary vocabulary, const MergeList& merges, const BpeOptions& options, const std::string& origin);

  const Vocabulary& vocabulary() const { return vocabulary_; }
  const BpeOptions& options() const { return options_; }
  std::size_t merges() const { return bpe_.size(); }

  // Appends the ids of one piece (well-formed UTF-8; raw bytes, not yet in the byte alphabet) to `out`.
  void encode(std::string_view piece, PieceCache& cache, std::vector<std::int32_t>& out) const;

 private:
  void append_character(std::string_view character, std::vector<std::int32_t>& symbols, std::int32_t& unknown) const;
  void first_symbols(std::string_view piece, std::vector<std::int32_t>& symbols) const;

  Vocabulary vocabulary_;
  BpeOptions options_;
  Bpe bpe_;
  std::array<std::int32_t, 256> byte_ids_{};      // <0xXX>
  std::array<std::int32_t, 256> byte_symbols_{};  // in the byte alphabet
  std::array<std::int32_t, 128> ascii_{};
};

}  // namespace ptq

// Byte-pair encoding: of all adjacent pairs that have a merge, replace the one of lowest rank, leftmost first, until
// none is left.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ptq {

// The merge table and the merge loop. Rank and result of a pair of ids.
class Bpe {
 public:
  void reserve(std::size_t merges);

  // The first merge given for a pair stays; ranks and ids are non-negative.
  void add(std::int32_t left, std::int32_t right, std::int32_t rank, std::int32_t result);

  // Merges `symbols` in place. O(n^2) up to some 50 symbols, where that is fastest, and O(n log n) beyond: for a
  // SentencePiece-style tokenizer the whole text is one word.
  void merge(std::vector<std::int32_t>& symbols) const;

  std::size_t size() const { return count_; }

 private:
  struct Merge {
    std::int32_t left = -1, right = -1, rank = -1, result = -1;
  };
  const Merge* find(std::int32_t left, std::int32_t right) const;
  void merge_short(std::vector<std::int32_t>& symbols) const;
  void merge_long(std::vector<std::int32_t>& symbols) const;

  std::vector<Merge> slots_;  // open addressing, a power of two
  std::size_t count_ = 0;
};

// The ids of pieces already seen in this text.
class PieceCache {
 public:
  // Appends the piece's ids to `out`; false if the piece is new.
  bool append(std::string_view piece, std::vector<std::int32_t>& out) const;
  void put(std::string_view piece, std::span<const std::int32_t> ids);  // a new piece

 private:
  struct Slot {
    std::uint32_t hash = 0, length = 0, count = 0;
    bool used = false;
    std::size_t offset = 0, first = 0;  // of the piece in bytes_, of its ids in ids_
  };
  std::size_t slot_of(std::string_view piece, std::uint32_t hash) const;

  std::vector<Slot> slots_;
  std::string bytes_;
  std::vector<std::int32_t> ids_;
  std::size_t used_ = 0;
};

}  // namespace ptq

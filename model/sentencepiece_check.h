// A reader of SentencePiece's tokenizer.model (a protobuf ModelProto) that stands before the library, because Debian's
// 0.1.97 accepts damaged files and crashes on some: it has no checksum, trusts the normaliser's precompiled trie, and
// takes any bytes for a piece.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ptq {

struct SentencePieceModel {
  enum class Type { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };
  struct Piece {
    std::string text;
    Type type = Type::normal;
  };
  std::vector<Piece> pieces;  // by id
  std::string proto;          // the checked fields, to be given to the library
};

// True if the bytes can be a ModelProto at all: they start with the tag of a piece.
bool looks_like_sentencepiece(std::string_view bytes);

// Exit 65, with `origin` and the byte, unless the file is a BPE model of at most 64 MiB with an empty normaliser map,
// well-formed, unique, non-empty pieces of at most 1 KiB, finite scores and exactly one unknown piece.
SentencePieceModel check_sentencepiece(std::string_view bytes, const std::string& origin);

}  // namespace ptq

#include "model/sentencepiece_check.h"

#include "host/error.h"
#include "host/printable.h"
#include "model/utf8.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <optional>
#include <unordered_set>

namespace ptq {

namespace {

constexpr std::size_t file_limit = std::size_t{64} << 20;
constexpr std::size_t piece_bytes = 1024;
constexpr std::size_t piece_count = std::size_t{1} << 20;

enum class Wire { varint = 0, fixed64 = 1, bytes = 2, fixed32 = 5 };

struct Field {
  std::uint64_t number = 0;
  Wire wire = Wire::varint;
  std::uint64_t value = 0;  // varint or fixed
  std::string_view bytes;   // length-delimited
  std::string_view whole;   // tag and value, as in the file
  std::size_t at = 0;       // byte in the file
};

// The fields of one protobuf message, in file order.
class Message {
 public:
  Message(std::string_view bytes, std::size_t offset, const std::string& origin)
      : bytes_(bytes), offset_(offset), origin_(origin) {}

  std::optional<Field> next() {
    if (at_ == bytes_.size()) return std::nullopt;
    const std::size_t start = at_;
    Field f;
    f.at = offset_ + start;
    const std::uint64_t tag = varint();
    f.number = tag >> 3;
    require(f.number >= 1 && f.number < (1u << 29), Exit::data, "{}: byte {}: bad field number {}", origin_, f.at,
            f.number);
    f.wire = static_cast<Wire>(tag & 7);
    switch (f.wire) {
      case Wire::varint:
        f.value = varint();
        break;
      case Wire::fixed64:
        f.value = fixed(8);
        break;
      case Wire::fixed32:
        f.value = fixed(4);
        break;
      case Wire::bytes:
        f.bytes = take(varint());
        break;
      default:
        fail(Exit::data, "{}: byte {}: bad wire type {}", origin_, f.at, tag & 7);
    }
    f.whole = bytes_.substr(start, at_ - start);
    return f;
  }

  // Where the contents of a length-delimited field lie in the file.
  std::size_t contents_at(const Field& f) const {
    return offset_ + static_cast<std::size_t>(f.bytes.data() - bytes_.data());
  }

 private:
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= static_cast<std::uint64_t>(byte & 0x7F) << shift;
      if ((byte & 0x80) == 0) return value;
    }
    fail(Exit::data, "{}: byte {}: a number of more than 64 bits", origin_, offset_ + at_);
  }
  std::uint64_t fixed(std::size_t n) {
    const std::string_view raw = take(n);
    std::uint64_t value = 0;
    for (std::size_t i = n; i-- > 0;) value = (value << 8) | static_cast<unsigned char>(raw[i]);
    return value;
  }
  std::string_view take(std::uint64_t n) {
    require(n <= bytes_.size() - at_, Exit::data, "{}: byte {}: {} bytes announced, {} left", origin_, offset_ + at_, n,
            bytes_.size() - at_);
    const std::string_view taken = bytes_.substr(at_, static_cast<std::size_t>(n));
    at_ += static_cast<std::size_t>(n);
    return taken;
  }

  std::string_view bytes_;
  std::size_t offset_;
  const std::string& origin_;
  std::size_t at_ = 0;
};

void require_wire(const Field& f, Wire wire, std::string_view name, const std::string& origin) {
  require(f.wire == wire, Exit::data, "{}: byte {}: {} has wire type {}, not {}", origin, f.at, name,
          static_cast<int>(f.wire), static_cast<int>(wire));
}

SentencePieceModel::Piece read_piece(Message message, std::size_t id, const std::string& origin) {
  SentencePieceModel::Piece piece;
  bool named = false;
  while (const auto f = message.next()) {
    if (f->number == 1) {
      require_wire(*f, Wire::bytes, "piece", origin);
      piece.text = std::string(f->bytes);
      named = true;
    } else if (f->number == 2) {
      require_wire(*f, Wire::fixed32, "score", origin);
      const auto score = std::bit_cast<float>(static_cast<std::uint32_t>(f->value));
      require(std::isfinite(score), Exit::data, "{}: byte {}: piece {} has score {}", origin, f->at, id, score);
    } else if (f->number == 3) {
      require_wire(*f, Wire::varint, "type", origin);
      require(f->value >= 1 && f->value <= 6, Exit::data, "{}: byte {}: piece {} has unknown type {}", origin, f->at,
              id, f->value);
      piece.type = static_cast<SentencePieceModel::Type>(f->value);
    }
  }
  require(named && !piece.text.empty(), Exit::data, "{}: piece {} is empty", origin, id);
  require(piece.text.size() <= piece_bytes, Exit::data, "{}: piece {} has {} bytes, more than {}", origin, id,
          piece.text.size(), piece_bytes);
  if (!is_utf8(piece.text) || piece.text.find('\0') != std::string::npos) {
    fail(Exit::data, "{}: piece {} \"{}\" is not well-formed UTF-8", origin, id, printable(piece.text));
  }
  return piece;
}

// Model type BPE; pieces named here (unk, bos, eos, pad and the surface of unk) are text.
void check_trainer(Message message, const std::string& origin) {
  std::uint64_t type = 1;
  while (const auto f = message.next()) {
    if (f->number == 3) {
      require_wire(*f, Wire::varint, "model_type", origin);
      type = f->value;
    }
    if (f->number == 24 || f->number == 35) require_wire(*f, Wire::varint, "a flag of trainer_spec", origin);
    if (f->number >= 44 && f->number <= 48) {
      require_wire(*f, Wire::bytes, "a special piece of trainer_spec", origin);
      require(is_utf8(f->bytes) && f->bytes.size() <= piece_bytes, Exit::data,
              "{}: byte {}: a special piece is not text", origin, f->at);
    }
  }
  require(type == 2, Exit::data, "{}: model type {} is not supported; BPE (2) is", origin, type);
}

void check_normalizer(Message message, const std::string& origin) {
  while (const auto f = message.next()) {
    if (f->number == 2) {
      require_wire(*f, Wire::bytes, "precompiled_charsmap", origin);
      require(f->bytes.empty(), Exit::data,
              "{}: byte {}: the normaliser has a character map of {} bytes; only identity normalisation is supported",
              origin, f->at, f->bytes.size());
    }
    if (f->number >= 3 && f->number <= 5) require_wire(*f, Wire::varint, "a flag of normalizer_spec", origin);
  }
}

}  // namespace

bool looks_like_sentencepiece(std::string_view bytes) { return bytes.starts_with('\x0A'); }

SentencePieceModel check_sentencepiece(std::string_view bytes, const std::string& origin) {
  require(bytes.size() <= file_limit, Exit::data, "{}: {} bytes, more than {}", origin, bytes.size(), file_limit);
  SentencePieceModel model;
  std::size_t unknowns = 0;
  bool trainer = false, normalizer = false;
  Message message(bytes, 0, origin);
  while (const auto f = message.next()) {
    if (f->number < 1 || f->number > 3) continue;  // self tests and extensions do not concern us
    require_wire(*f, Wire::bytes, "a part of the model", origin);
    const Message inner(f->bytes, message.contents_at(*f), origin);
    if (f->number == 1) {
      require(model.pieces.size() < piece_count, Exit::data, "{}: more than {} pieces", origin, piece_count);
      model.pieces.push_back(read_piece(inner, model.pieces.size(), origin));
      unknowns += model.pieces.back().type == SentencePieceModel::Type::unknown ? 1 : 0;
    } else {
      bool& seen = f->number == 2 ? trainer : normalizer;
      require(!seen, Exit::data, "{}: byte {}: a second {}", origin, f->at,
              f->number == 2 ? "trainer_spec" : "normalizer_spec");
      seen = true;
      f->number == 2 ? check_trainer(inner, origin) : check_normalizer(inner, origin);
    }
    model.proto.append(f->whole);
  }
  require(!model.pieces.empty(), Exit::data, "{}: no pieces", origin);
  require(trainer && normalizer, Exit::data, "{}: {} is missing", origin, trainer ? "normalizer_spec" : "trainer_spec");
  require(unknowns == 1, Exit::data, "{}: {} pieces of type unknown, not one", origin, unknowns);
  std::unordered_set<std::string_view> texts;
  for (std::size_t id = 0; id < model.pieces.size(); ++id) {
    if (!texts.insert(model.pieces[id].text).second) {
      fail(Exit::data, "{}: piece {} \"{}\" occurs twice", origin, id, printable(model.pieces[id].text));
    }
  }
  return model;
}

}  // namespace ptq

#include "model/bpe_model.h"

#include "host/error.h"
#include "host/printable.h"
#include "model/byte_level.h"
#include "model/utf8.h"

#include <algorithm>

namespace ptq {

namespace {

constexpr std::size_t cached_piece_bytes = 256;  // longer pieces hardly repeat

}  // namespace

void MergeList::add(std::string_view left, std::string_view right) {
  require(bytes_.size() + left.size() + right.size() < (std::size_t{1} << 32), Exit::data, "merges larger than 4 GiB");
  bytes_.append(left);
  ends_.push_back(static_cast<std::uint32_t>(bytes_.size()));
  bytes_.append(right);
  ends_.push_back(static_cast<std::uint32_t>(bytes_.size()));
}

std::pair<std::string_view, std::string_view> MergeList::operator[](std::size_t rank) const {
  const std::size_t begin = rank == 0 ? 0 : ends_[2 * rank - 1];
  const std::size_t middle = ends_[2 * rank], end = ends_[2 * rank + 1];
  const std::string_view bytes = bytes_;
  return {bytes.substr(begin, middle - begin), bytes.substr(middle, end - middle)};
}

BpeModel::BpeModel(Vocabulary vocabulary, const MergeList& merges, const BpeOptions& options, const std::string& origin)
    : vocabulary_(std::move(vocabulary)), options_(options) {
  bpe_.reserve(merges.size());
  std::string joined;
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const auto [left, right] = merges[rank];
    joined.assign(left).append(right);
    const std::int32_t a = vocabulary_.find(left), b = vocabulary_.find(right), ab = vocabulary_.find(joined);
    if (a < 0 || b < 0 || ab < 0) {
      fail(Exit::data, "{}: merge {} (\"{}\" + \"{}\") names a token that is not in the vocabulary", origin, rank,
           printable(left), printable(right));
    }
    bpe_.add(a, b, options.rank_by_result ? ab : static_cast<std::int32_t>(rank), ab);
  }
  for (unsigned b = 0; b < 256; ++b) byte_ids_[b] = vocabulary_.find(fmt::format("<0x{:02X}>", b));
  std::string character;
  for (unsigned b = 0; b < 256; ++b) {
    character.clear();
    append_utf8(character, byte_characters()[b]);
    byte_symbols_[b] = vocabulary_.find(character);
  }
  for (unsigned c = 0; c < 128; ++c) ascii_[c] = vocabulary_.find(std::string(1, static_cast<char>(c)));
}

// One unknown symbol stays pending while the next characters may fuse with it. Bytes of a fallback do not flush it:
// Hugging Face emits a pending unknown after them.
void BpeModel::append_character(std::string_view character, std::vector<std::int32_t>& symbols,
                                std::int32_t& unknown) const {
  const std::int32_t id =
      character.size() == 1 ? ascii_[static_cast<unsigned char>(character[0])] : vocabulary_.find(character);
  if (id >= 0) {
    if (unknown >= 0) symbols.push_back(unknown);
    unknown = -1;
    symbols.push_back(id);
    return;
  }
  const auto byte_id = [&](char b) { return byte_ids_[static_cast<unsigned char>(b)]; };
  if (options_.byte_fallback && std::ranges::all_of(character, [&](char b) { return byte_id(b) >= 0; })) {
    for (char b : character) symbols.push_back(byte_id(b));
    return;
  }
  if (options_.unknown < 0) return;
  if (unknown >= 0 && !options_.fuse_unknown) symbols.push_back(unknown);
  unknown = options_.unknown;
}

void BpeModel::first_symbols(std::string_view piece, std::vector<std::int32_t>& symbols) const {
  std::int32_t unknown = -1;
  std::string character;
  for (std::size_t at = 0; at < piece.size();) {
    if (!options_.byte_level) {
      const std::size_t length = decode_utf8(piece, at).length;
      append_character(piece.substr(at, length), symbols, unknown);
      at += length;
      continue;
    }
    const auto byte = static_cast<unsigned char>(piece[at++]);
    if (byte_symbols_[byte] >= 0 && unknown < 0) {
      symbols.push_back(byte_symbols_[byte]);
      continue;
    }
    character.clear();
    append_utf8(character, byte_characters()[byte]);
    append_character(character, symbols, unknown);
  }
  if (unknown >= 0) symbols.push_back(unknown);
}

void BpeModel::encode(std::string_view piece, PieceCache& cache, std::vector<std::int32_t>& out) const {
  if (piece.empty() || cache.append(piece, out)) return;
  std::vector<std::int32_t> symbols;
  if (options_.ignore_merges) {
    std::string spelled;
    if (options_.byte_level) append_byte_level(spelled, piece);
    const std::int32_t id = vocabulary_.find(options_.byte_level ? std::string_view(spelled) : piece);
    if (id >= 0) symbols.push_back(id);
  }
  if (symbols.empty()) {
    symbols.reserve(piece.size());
    first_symbols(piece, symbols);
    bpe_.merge(symbols);
  }
  if (piece.size() < cached_piece_bytes) cache.put(piece, symbols);
  out.insert(out.end(), symbols.begin(), symbols.end());
}

}  // namespace ptq

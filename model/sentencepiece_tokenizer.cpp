#include "model/sentencepiece_tokenizer.h"

#include "host/error.h"
#include "host/printable.h"
#include "model/hf_decoder.h"
#include "model/sentencepiece_check.h"
#include "model/utf8.h"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <map>
#include <set>

namespace ptq {

namespace {

constexpr std::size_t text_limit = std::size_t{1} << 30;  // the library counts in int
constexpr std::string_view metaspace = "\u2581";

class Library {
 public:
  Library(const std::string& proto, const std::string& origin) : origin_(origin) {
    guard([&] { return processor_.LoadFromSerializedProto(proto); });
  }

  std::vector<std::int32_t> encode(std::string_view text) const {
    require(text.size() <= text_limit, Exit::data, "{}: text of {} bytes is longer than {}", origin_, text.size(),
            text_limit);
    std::vector<std::int32_t> ids;
    guard([&] { return processor_.Encode(text, &ids); });
    return ids;
  }
  std::string decode(const std::vector<std::int32_t>& ids) const {
    std::string text;
    guard([&] { return processor_.Decode(ids, &text); });
    return text;
  }
  std::int32_t bos() const { return processor_.bos_id(); }
  std::int32_t eos() const { return processor_.eos_id(); }

 private:
  template <class Call>
  void guard(Call call) const {
    std::string problem;
    try {
      const auto status = call();
      if (status.ok()) return;
      problem = status.ToString();
    } catch (const std::bad_alloc&) {
      fail(Exit::again, "{}: out of memory in libsentencepiece", origin_);
    } catch (const std::exception& e) {
      problem = e.what();
    }
    fail(Exit::data, "{}: libsentencepiece: {}", origin_, printable(problem, 200));
  }

  std::string origin_;
  sentencepiece::SentencePieceProcessor processor_;
};

class PlainTokenizer : public Tokenizer {
 public:
  PlainTokenizer(const SentencePieceModel& model, const std::string& origin)
      : library_(model.proto, origin), size_(static_cast<std::int64_t>(model.pieces.size())) {}

  std::vector<std::int32_t> encode(std::string_view text) const override {
    std::string repaired;
    return library_.encode(repair_utf8(text, repaired));
  }
  std::string decode(std::span<const std::int32_t> ids) const override {
    std::vector<std::int32_t> known;
    std::ranges::copy_if(ids, std::back_inserter(known), [&](std::int32_t id) { return id >= 0 && id < size_; });
    return library_.decode(known);
  }
  std::int64_t vocab_size() const override { return size_; }
  std::vector<std::int32_t> prefix() const override {
    return bos() < 0 ? std::vector<std::int32_t>{} : std::vector<std::int32_t>{bos()};
  }
  std::int32_t bos() const override { return library_.bos(); }
  std::int32_t eos() const override { return library_.eos(); }
  std::string description() const override { return fmt::format("sentencepiece BPE, {} pieces", size_); }

 private:
  Library library_;
  std::int64_t size_;
};

// The model with the library's own treatment of spaces reduced to ' ' -> U+2581: of repeated fields the last one holds.
std::string without_dummy_prefix(const std::string& proto) {
  constexpr char flags[] = {0x1A, 6, 0x18, 0, 0x20, 0, 0x28, 1};  // normalizer_spec {prefix 0, strip 0, escape 1}
  return proto + std::string(flags, sizeof flags);
}

class HfSentencePieceTokenizer : public Tokenizer {
 public:
  HfSentencePieceTokenizer(const SentencePieceModel& model, const std::string& origin, const TokenizerConfig& config)
      : library_(without_dummy_prefix(model.proto), origin),
        decoder_(TokenDecoder::llama()),
        legacy_(config.legacy.value_or(true)) {
    std::map<std::string, std::int32_t> ids;
    for (const auto& piece : model.pieces) {
      ids[piece.text] = static_cast<std::int32_t>(pieces_.size());
      pieces_.push_back(piece.text);
    }
    std::vector<AddedToken> added = config.added;
    for (const AddedToken& token : added) ids[token.content] = token.id;
    std::set<std::string> literal;
    for (const AddedToken& token : added) literal.insert(token.content);
    const auto add = [&](const std::string& content) {
      const auto found = ids.find(content);
      if (found == ids.end() || !literal.insert(content).second) return;
      added.push_back({.content = content, .id = found->second});
    };
    using Type = SentencePieceModel::Type;
    for (const auto& piece : model.pieces) {
      if (piece.type == Type::unknown || piece.type == Type::control || piece.type == Type::user_defined) {
        add(piece.text);
      }
    }
    for (const auto& [role, content] : config.special) add(content);
    for (const AddedToken& token : added) {
      if (static_cast<std::size_t>(token.id) >= pieces_.size()) pieces_.resize(static_cast<std::size_t>(token.id) + 1);
      pieces_[static_cast<std::size_t>(token.id)] = token.content;
    }
    added_ = AddedTokens(std::move(added));
    const auto id_of = [&](const char* role, std::int32_t otherwise) {
      const auto found = ids.find(config.special_token(role));
      return found == ids.end() ? otherwise : found->second;
    };
    bos_ = id_of("bos_token", library_.bos());
    eos_ = id_of("eos_token", library_.eos());
    add_bos_ = config.add_bos.value_or(true) && bos_ >= 0;
  }

  std::vector<std::int32_t> encode(std::string_view bytes) const override {
    std::string repaired;
    const std::string_view text = repair_utf8(bytes, repaired);
    std::vector<std::int32_t> ids;
    for (const AddedTokens::Part& part : added_.split(text)) {
      if (part.id >= 0) {
        ids.push_back(part.id);
        continue;
      }
      const bool at_start = part.text.data() == text.data();
      const bool spaced = part.text.starts_with(' ') || part.text.starts_with(metaspace);
      std::string marked;
      if (legacy_ || (at_start && !spaced)) marked = metaspace;
      marked += part.text;
      const std::vector<std::int32_t> part_ids = library_.encode(marked);
      ids.insert(ids.end(), part_ids.begin(), part_ids.end());
    }
    return ids;
  }

  std::string decode(std::span<const std::int32_t> ids) const override {
    std::vector<std::string> tokens;
    for (std::int32_t id : ids) {
      if (id >= 0 && static_cast<std::size_t>(id) < pieces_.size())
        tokens.push_back(pieces_[static_cast<std::size_t>(id)]);
    }
    return decoder_.decode(std::move(tokens));
  }

  std::int64_t vocab_size() const override { return static_cast<std::int64_t>(pieces_.size()); }
  std::vector<std::int32_t> prefix() const override {
    return add_bos_ ? std::vector<std::int32_t>{bos_} : std::vector<std::int32_t>{};
  }
  std::int32_t bos() const override { return bos_; }
  std::int32_t eos() const override { return eos_; }
  std::string description() const override {
    return fmt::format("sentencepiece BPE, {} pieces, Hugging Face rules, {}", pieces_.size(),
                       legacy_ ? "legacy" : "not legacy");
  }

 private:
  Library library_;
  TokenDecoder decoder_;
  AddedTokens added_;
  std::vector<std::string> pieces_;
  bool legacy_, add_bos_ = false;
  std::int32_t bos_ = -1, eos_ = -1;
};

}  // namespace

std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(std::string_view bytes, const std::string& origin,
                                                        const TokenizerConfig& config) {
  const SentencePieceModel model = check_sentencepiece(bytes, origin);
  if (!config.present) return std::make_unique<PlainTokenizer>(model, origin);
  return std::make_unique<HfSentencePieceTokenizer>(model, origin, config);
}

}  // namespace ptq

#include "model/tokenizer_json.h"

#include "host/error.h"
#include "host/files.h"
#include "host/printable.h"

#include <optional>

namespace ptq {

namespace {

using Json = nlohmann::json;

constexpr std::uint64_t file_limit = std::uint64_t{256} << 20;
constexpr std::size_t max_depth = 64;

void add_merge_line(std::string_view line, MergeList& merges, const std::string& where) {
  const std::size_t space = line.find(' ');
  if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos) {
    fail(Exit::data, "{}: merge {} \"{}\" is not two tokens separated by a space", where, merges.size(),
         printable(line));
  }
  merges.add(line.substr(0, space), line.substr(space + 1));
}

// Receives the parser's events. Where the path is model.vocab (an object) or model.merges (an array), entries go into
// the tables; everything else is built as a tree.
class Reader {
 public:
  // vocab_at_root: the whole file is the vocabulary.
  Reader(TokenizerJson& out, std::string where, bool vocab_at_root)
      : out_(out), where_(std::move(where)), vocab_at_root_(vocab_at_root) {}

  bool null() { return value(nullptr); }
  bool boolean(bool v) { return value(v); }
  bool number_integer(Json::number_integer_t v) { return value(v); }
  bool number_unsigned(Json::number_unsigned_t v) {
    if (section_ != Section::vocab) return value(v);
    out_.vocabulary.add(key_, static_cast<std::int64_t>(std::min<std::uint64_t>(v, Vocabulary::id_limit)), where_);
    return true;
  }
  bool number_float(Json::number_float_t v, const std::string&) { return value(v); }
  bool string(std::string& v) {
    if (section_ == Section::merges && !pair_) {
      add_merge_line(v, out_.merges, where_);
      return true;
    }
    if (section_ == Section::merges) {
      pair_->push_back(std::move(v));
      return true;
    }
    return value(std::move(v));
  }
  bool binary(Json::binary_t&) { return false; }

  bool key(std::string& k) {
    key_ = std::move(k);
    return true;
  }

  bool start_object(std::size_t) {
    if (section_ != Section::none) refuse_nesting();
    if ((vocab_at_root_ && stack_.empty()) || (in_model() && key_ == "vocab")) {
      require(!seen_vocab_, Exit::data, "{}: two vocabularies", where_);
      seen_vocab_ = true;
      section_ = Section::vocab;
      return true;
    }
    return open(Json::object());
  }
  bool end_object() { return section_ == Section::vocab ? close_section() : close(); }

  bool start_array(std::size_t) {
    if (section_ == Section::merges && !pair_) {
      pair_.emplace();
      return true;
    }
    if (section_ != Section::none) refuse_nesting();
    if (in_model() && key_ == "merges") {
      require(!seen_merges_, Exit::data, "{}: two lists of merges", where_);
      seen_merges_ = true;
      section_ = Section::merges;
      return true;
    }
    return open(Json::array());
  }
  bool end_array() {
    if (section_ == Section::none) return close();
    if (!pair_) return close_section();
    require(pair_->size() == 2, Exit::data, "{}: merge {} has {} parts, not two", where_, out_.merges.size(),
            pair_->size());
    out_.merges.add((*pair_)[0], (*pair_)[1]);
    pair_.reset();
    return true;
  }

  bool parse_error(std::size_t byte, const std::string&, const nlohmann::detail::exception& e) {
    fail(Exit::data, "{}: malformed JSON at byte {}: {}", where_, byte, printable(e.what(), 200));
  }

 private:
  enum class Section { none, vocab, merges };

  [[noreturn]] void refuse_nesting() const {
    fail(Exit::data, "{}: the {} holds something else than {}", where_,
         section_ == Section::vocab ? "vocabulary" : "list of merges",
         section_ == Section::vocab ? "token ids" : "pairs of tokens");
  }

  bool in_model() const { return !vocab_at_root_ && stack_.size() == 2 && model_; }

  Json* place(Json v) {
    if (stack_.empty()) {
      out_.rest = std::move(v);
      return &out_.rest;
    }
    if (stack_.back()->is_array()) {
      stack_.back()->push_back(std::move(v));
      return &stack_.back()->back();
    }
    const auto [entry, fresh] = stack_.back()->emplace(key_, std::move(v));
    require(fresh, Exit::data, "{}: key \"{}\" occurs twice", where_, printable(key_));
    return &*entry;
  }

  template <class T>
  bool value(T v) {
    if (section_ != Section::none) refuse_nesting();
    place(Json(std::move(v)));
    return true;
  }

  bool open(Json container) {
    require(stack_.size() < max_depth, Exit::data, "{}: nested deeper than {}", where_, max_depth);
    if (stack_.size() == 1) model_ = stack_.back()->is_object() && key_ == "model";
    stack_.push_back(place(std::move(container)));
    return true;
  }
  bool close() {
    stack_.pop_back();
    return true;
  }
  bool close_section() {
    section_ = Section::none;
    return true;
  }

  TokenizerJson& out_;
  std::string where_;
  bool vocab_at_root_;
  std::vector<Json*> stack_;  // open containers; only the innermost grows, so the pointers stay valid
  std::string key_;
  std::optional<std::vector<std::string>> pair_;  // an open ["a", "b"]
  Section section_ = Section::none;
  bool model_ = false, seen_vocab_ = false, seen_merges_ = false;
};

TokenizerJson read(const std::filesystem::path& path, std::string_view what, bool vocab_at_root) {
  const std::string text = read_file(path, what, Size(file_limit));
  const std::size_t nul = text.find('\0');  // the parser would take it for the end
  require(nul == std::string::npos, Exit::data, "{}: byte {} is a NUL, not JSON", path.string(), nul);
  TokenizerJson out;
  Reader reader(out, path.string(), vocab_at_root);
  try {
    Json::sax_parse(text.data(), text.data() + text.size(), &reader);
  } catch (const Json::exception& e) {
    fail(Exit::data, "{}: malformed JSON: {}", path.string(), printable(e.what(), 200));
  }
  return out;
}

}  // namespace

TokenizerJson read_tokenizer_json(const std::filesystem::path& path) { return read(path, "tokenizer", false); }

Vocabulary read_vocab_json(const std::filesystem::path& path) {
  TokenizerJson json = read(path, "vocabulary", true);
  require(json.rest.is_null() && json.vocabulary.size() > 0, Exit::data, "{}: not an object of token ids",
          path.string());
  return std::move(json.vocabulary);
}

MergeList read_merges_txt(const std::filesystem::path& path) {
  const std::string text = read_file(path, "merges", Size(file_limit));
  MergeList merges;
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || line.starts_with("#version")) continue;
    add_merge_line(line, merges, path.string());
  }
  return merges;
}

}  // namespace ptq

// Pre-tokenizers of tokenizer.json: they cut text into the pieces within which BPE merges.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace ptq {

// Pieces of a text, views into it or into `owned`.
struct Pieces {
  std::vector<std::string_view> list;
  std::deque<std::string> owned;
};

inline constexpr std::string_view gpt2_pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view llama3_pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

class PreTokenizer {
 public:
  // The object at "pre_tokenizer" of tokenizer.json (null: none): Split, Digits, ByteLevel, Metaspace and Sequences of
  // them. Exit 65 with `origin` for any other type, by name.
  PreTokenizer(const nlohmann::json& spec, const std::string& origin);

  // Pieces are the matches of a pattern, tokens are spelled in the byte alphabet.
  static PreTokenizer byte_level(std::string_view pattern, bool add_prefix_space);

  // Tokens are spelled in the byte alphabet (a ByteLevel is the last step).
  bool is_byte_level() const { return byte_level_; }

  // A Metaspace treats the very start of the text in its own way.
  bool looks_at_start() const { return looks_at_start_; }

  // at_start: `text` is the beginning of the whole text, no added token was before it. Text is well-formed UTF-8.
  Pieces split(std::string_view text, bool at_start) const;

  class Step;

 private:
  PreTokenizer() = default;
  void add(const nlohmann::json& spec, const std::string& origin);

  std::vector<std::shared_ptr<const Step>> steps_;
  bool byte_level_ = false, looks_at_start_ = false;
};

}  // namespace ptq

// Added tokens: strings that are cut out of the text before anything else and become one id each, such as
// "<|endoftext|>". Of several candidates the leftmost wins, of those the longest.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ptq {

struct AddedToken {
  std::string content;
  std::int32_t id = -1;
  bool special = true;
  bool single_word = false;  // only where neither neighbour is a word character
  bool lstrip = false;       // takes the white space before it along
  bool rstrip = false;       // and after it
  bool normalized = false;   // searched in normalised text, in its own normalised form
};

class AddedTokens {
 public:
  struct Part {
    std::string_view text;
    std::int32_t id = -1;  // of an added token, -1: other text
  };

  AddedTokens() = default;
  explicit AddedTokens(std::vector<AddedToken> tokens);  // contents are not empty

  // Cuts `text` (well-formed UTF-8) into parts, none empty except that an id stands for its token.
  std::vector<Part> split(std::string_view text) const;

 private:
  const AddedToken* longest_at(std::string_view text) const;

  std::vector<AddedToken> tokens_;  // sorted by content
  std::array<bool, 256> first_byte_{};
};

}  // namespace ptq

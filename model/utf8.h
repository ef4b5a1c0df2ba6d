// UTF-8 decoding that never fails: ill-formed input becomes U+FFFD, one for each maximal ill-formed part (Unicode
// standard, section 3.9, "substitution of maximal subparts"; the same as Python's errors="replace").
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace ptq {

struct CodePoint {
  char32_t value = 0xFFFD;
  std::size_t length = 1;  // bytes it takes in the text
  bool well_formed = false;
};

// The code point at byte `at` < text.size().
CodePoint decode_utf8(std::string_view text, std::size_t at);

void append_utf8(std::string& out, char32_t code_point);

bool is_utf8(std::string_view text);

// `text` itself if it is well-formed; otherwise its repaired copy, kept in `storage`.
std::string_view repair_utf8(std::string_view text, std::string& storage);

}  // namespace ptq

// What the libraries behind Hugging Face tokenizers take for a letter, digit or space, and how they normalise. They use
// several versions of Unicode at once: regular expressions (Oniguruma) version 16, Digits (Rust's standard library) 17
// and NFC (an old crate) version 9. PCRE2 10.42 and utf8proc 2.8 of Debian 12 use version 14.
#pragma once

#include <string>
#include <string_view>

namespace ptq {

// `text` as PCRE2 has to see it to match like Unicode 16: characters that PCRE2 does not know are replaced by stand-ins
// of the same category and the same number of UTF-8 bytes, so offsets carry over. Without such characters it is `text`
// itself, otherwise a copy kept in `storage`. `text` must be well-formed.
std::string_view regex_view(std::string_view text, std::string& storage);

bool is_space(char32_t c);    // White_Space
bool is_numeric(char32_t c);  // Nd, Nl, No of Unicode 17
bool is_word(char32_t c);     // letters, marks, decimal digits, connectors

// NFC of Unicode 9: newer characters neither move, decompose nor compose. `text` must be well-formed.
std::string normalize_nfc(std::string_view text);

}  // namespace ptq

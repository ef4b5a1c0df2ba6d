// The byte alphabet of GPT-2: every byte is written as one printable character, so that a vocabulary of byte strings
// can live in JSON and text files. Printable Latin-1 stands for itself, the other 68 bytes are U+0100 onwards.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace ptq {

// Character of each byte.
const std::array<char32_t, 256>& byte_characters();

// Byte of a character, -1 if it is none of the alphabet.
int byte_of(char32_t character);

// `bytes` in the alphabet, appended to `out`.
void append_byte_level(std::string& out, std::string_view bytes);

// The bytes that `token` stands for, appended to `out`. A token with a character outside the alphabet stands for
// itself, as in Hugging Face's decoder.
void append_bytes_of(std::string& out, std::string_view token);

}  // namespace ptq

#include "model/byte_level.h"

#include "model/utf8.h"

namespace ptq {

namespace {

constexpr bool stands_for_itself(unsigned b) {
  return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || (b >= 0xAE && b <= 0xFF);
}

constexpr std::array<char32_t, 256> make_characters() {
  std::array<char32_t, 256> table{};
  char32_t next = 0x100;
  for (unsigned b = 0; b < 256; ++b) table[b] = stands_for_itself(b) ? b : next++;
  return table;
}

constexpr std::array<char32_t, 256> characters = make_characters();

constexpr std::array<std::int16_t, 0x144> make_bytes() {
  std::array<std::int16_t, 0x144> table{};
  for (auto& entry : table) entry = -1;
  for (unsigned b = 0; b < 256; ++b) table[characters[b]] = static_cast<std::int16_t>(b);
  return table;
}

constexpr std::array<std::int16_t, 0x144> bytes_of_characters = make_bytes();

}  // namespace

const std::array<char32_t, 256>& byte_characters() { return characters; }

int byte_of(char32_t character) { return character < bytes_of_characters.size() ? bytes_of_characters[character] : -1; }

void append_byte_level(std::string& out, std::string_view bytes) {
  for (char b : bytes) append_utf8(out, characters[static_cast<unsigned char>(b)]);
}

void append_bytes_of(std::string& out, std::string_view token) {
  const std::size_t start = out.size();
  for (std::size_t at = 0; at < token.size();) {
    const CodePoint c = decode_utf8(token, at);
    const int b = byte_of(c.value);
    if (b < 0) {
      out.resize(start);
      out.append(token);
      return;
    }
    out += static_cast<char>(b);
    at += c.length;
  }
}

}  // namespace ptq

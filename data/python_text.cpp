#include "data/python_text.h"

#include <algorithm>
#include <array>
#include <cstddef>

namespace ptq {

namespace {

using namespace std::string_view_literals;

// str.isspace(): bidirectional class WS, B or S, or general category Zs (Unicode 6.3 and later).
constexpr std::array spaces{"\t"sv,           "\n"sv,           "\v"sv,           "\f"sv,           "\r"sv,
                            "\x1c"sv,         "\x1d"sv,         "\x1e"sv,         "\x1f"sv,         " "sv,
                            "\xc2\x85"sv,     "\xc2\xa0"sv,     "\xe1\x9a\x80"sv, "\xe2\x80\x80"sv, "\xe2\x80\x81"sv,
                            "\xe2\x80\x82"sv, "\xe2\x80\x83"sv, "\xe2\x80\x84"sv, "\xe2\x80\x85"sv, "\xe2\x80\x86"sv,
                            "\xe2\x80\x87"sv, "\xe2\x80\x88"sv, "\xe2\x80\x89"sv, "\xe2\x80\x8a"sv, "\xe2\x80\xa8"sv,
                            "\xe2\x80\xa9"sv, "\xe2\x80\xaf"sv, "\xe2\x81\x9f"sv, "\xe3\x80\x80"sv};

template <class Matches>
std::size_t space_bytes(Matches matches) {
  const auto* found = std::find_if(spaces.begin(), spaces.end(), matches);
  return found == spaces.end() ? 0 : found->size();
}

}  // namespace

std::string_view python_rstrip(std::string_view text) {
  while (const std::size_t n = space_bytes([&](std::string_view s) { return text.ends_with(s); }))
    text.remove_suffix(n);
  return text;
}

std::string_view python_strip(std::string_view text) {
  text = python_rstrip(text);
  while (const std::size_t n = space_bytes([&](std::string_view s) { return text.starts_with(s); }))
    text.remove_prefix(n);
  return text;
}

std::int64_t code_points(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; });
}

}  // namespace ptq

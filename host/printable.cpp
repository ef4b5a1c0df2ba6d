#include "host/printable.h"

#include <fmt/format.h>

#include <iterator>

namespace ptq {

std::string printable(std::string_view text, std::size_t limit) {
  std::string out;
  for (const char c : text) {
    if (out.size() >= limit) return out + "...";
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte > 0x7e || byte == '\\') {
      fmt::format_to(std::back_inserter(out), "\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  return out;
}

std::string json_reason(std::string_view what) {
  const auto prefix = what.find("] ");
  return printable(what.starts_with("[json") && prefix != std::string_view::npos ? what.substr(prefix + 2) : what, 200);
}

}  // namespace ptq

#include "model/tiktoken.h"

#include "host/error.h"
#include "host/printable.h"
#include "model/byte_level.h"
#include "model/utf8.h"

#include <charconv>
#include <optional>

namespace ptq {

namespace {

constexpr std::size_t token_bytes = 1024;  // bounds the number of ways to split a token

int base64_digit(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == '+') return 62;
  return c == '/' ? 63 : -1;
}

std::optional<std::string> decode_base64(std::string_view text) {
  if (text.empty() || text.size() % 4 != 0) return std::nullopt;
  const std::size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  std::string out;
  unsigned bits = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const int digit = i < text.size() - padding ? base64_digit(text[i]) : 0;
    if (digit < 0) return std::nullopt;
    bits = (bits << 6) | static_cast<unsigned>(digit);
    if (i % 4 != 3) continue;
    for (int shift = 16; shift >= 0; shift -= 8) out += static_cast<char>((bits >> shift) & 0xFF);
  }
  out.resize(out.size() - padding);
  return out;
}

void add_splits(std::string_view token, const Vocabulary& vocabulary, MergeList& merges) {
  for (std::size_t at = decode_utf8(token, 0).length; at < token.size(); at += decode_utf8(token, at).length) {
    const std::string_view left = token.substr(0, at), right = token.substr(at);
    if (vocabulary.find(left) >= 0 && vocabulary.find(right) >= 0) merges.add(left, right);
  }
}

}  // namespace

TiktokenFile read_tiktoken(std::string_view bytes, const std::string& origin) {
  TiktokenFile file;
  std::string spelled;
  std::size_t number = 0;
  for (std::string_view rest = bytes; !rest.empty();) {
    ++number;
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.empty()) continue;
    const std::size_t space = std::min(line.find(' '), line.size());
    const auto token = decode_base64(line.substr(0, space));
    std::int64_t rank = -1;
    const char* last = line.data() + line.size();
    const auto parsed = std::from_chars(line.data() + std::min(space + 1, line.size()), last, rank);
    if (!token || token->size() > token_bytes || parsed.ec != std::errc{} || parsed.ptr != last) {
      fail(Exit::data, "{}: line {} \"{}\" is not a base64 token and its rank", origin, number, printable(line, 60));
    }
    spelled.clear();
    append_byte_level(spelled, *token);
    file.vocabulary.add(spelled, rank, origin);
  }
  for (std::int32_t id = 0; id < file.vocabulary.size(); ++id) {
    require(file.vocabulary.has(id), Exit::data, "{}: rank {} is missing", origin, id);
    add_splits(file.vocabulary.text(id), file.vocabulary, file.merges);
  }
  require(file.vocabulary.size() > 0, Exit::data, "{}: no tokens", origin);
  return file;
}

std::string llama3_special(std::int32_t index) {
  switch (index) {
    case 0:
      return "<|begin_of_text|>";
    case 1:
      return "<|end_of_text|>";
    case 6:
      return "<|start_header_id|>";
    case 7:
      return "<|end_header_id|>";
    case 9:
      return "<|eot_id|>";
    default:
      return fmt::format("<|reserved_special_token_{}|>", index < 6 ? index - 2 : index < 9 ? index - 4 : index - 5);
  }
}

}  // namespace ptq

#include "model/added_tokens.h"

#include "model/unicode.h"
#include "model/utf8.h"

#include <algorithm>

namespace ptq {

namespace {

// The last code point of well-formed text, and where it begins.
std::size_t last_character(std::string_view text) {
  std::size_t at = text.size() - 1;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
  return at;
}

bool is_single_word(std::string_view text, std::size_t begin, std::size_t end) {
  const std::string_view before = text.substr(0, begin);
  if (!before.empty() && is_word(decode_utf8(before, last_character(before)).value)) return false;
  return end == text.size() || !is_word(decode_utf8(text, end).value);
}

std::size_t spaces_begin(std::string_view text, std::size_t end) {
  while (end > 0) {
    const std::size_t at = last_character(text.substr(0, end));
    if (!is_space(decode_utf8(text, at).value)) break;
    end = at;
  }
  return end;
}

std::size_t spaces_end(std::string_view text, std::size_t begin) {
  while (begin < text.size()) {
    const CodePoint c = decode_utf8(text, begin);
    if (!is_space(c.value)) break;
    begin += c.length;
  }
  return begin;
}

}  // namespace

AddedTokens::AddedTokens(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  std::ranges::sort(tokens_, {}, &AddedToken::content);
  for (const AddedToken& t : tokens_) first_byte_[static_cast<unsigned char>(t.content[0])] = true;
}

const AddedToken* AddedTokens::longest_at(std::string_view text) const {
  // [first, last): the tokens that begin with the first `depth` bytes of the text; the shortest of them comes first.
  const AddedToken* longest = nullptr;
  auto first = tokens_.begin(), last = tokens_.end();
  for (std::size_t depth = 0; first != last; ++depth) {
    if (first->content.size() == depth) {
      longest = &*first;
      while (first != last && first->content.size() == depth) ++first;
    }
    if (depth == text.size()) break;
    const auto key = static_cast<unsigned char>(text[depth]);
    const auto byte = [depth](const AddedToken& t) { return static_cast<unsigned char>(t.content[depth]); };
    first = std::ranges::lower_bound(first, last, key, {}, byte);
    last = std::ranges::upper_bound(first, last, key, {}, byte);
  }
  return longest;
}

std::vector<AddedTokens::Part> AddedTokens::split(std::string_view text) const {
  std::vector<Part> parts;
  std::size_t done = 0;
  for (std::size_t at = 0; at < text.size() && !tokens_.empty();) {
    const AddedToken* token = first_byte_[static_cast<unsigned char>(text[at])] ? longest_at(text.substr(at)) : nullptr;
    if (token == nullptr) {
      ++at;
      continue;
    }
    std::size_t begin = at, end = at + token->content.size();
    at = end;
    if (token->single_word && !is_single_word(text, begin, end)) continue;
    if (token->lstrip) begin = spaces_begin(text, begin);
    begin = std::max(begin, done);  // the token before may have taken spaces along
    if (token->rstrip) end = spaces_end(text, end);
    if (done < begin) parts.push_back({text.substr(done, begin - done), -1});
    parts.push_back({text.substr(begin, std::max(begin, end) - begin), token->id});
    done = end;
  }
  if (done < text.size()) parts.push_back({text.substr(done), -1});
  return parts;
}

}  // namespace ptq

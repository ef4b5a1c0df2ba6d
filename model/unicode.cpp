#include "model/unicode.h"

#include "host/error.h"
#include "model/utf8.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <vector>

namespace ptq {

namespace {

// Stand-ins: long-established characters of each category with three or four UTF-8 bytes.
constexpr char32_t lu3 = 0x1E00, lu4 = 0x10400, ll3 = 0x1E01, ll4 = 0x10428, lm4 = 0x16B40, lo4 = 0x10280;
constexpr char32_t han4 = 0x20000, mn3 = 0x1AB0, mn4 = 0x101FD, mc3 = 0x0903, mc4 = 0x11000, nd4 = 0x104A0;
constexpr char32_t no4 = 0x10107, pd4 = 0x10EAD, po3 = 0x2016, po4 = 0x10100, sm4 = 0x1D6C1, so3 = 0x2300;
constexpr char32_t so4 = 0x10137, cf3 = 0x200B, cf4 = 0x110BD;

struct StandIn {
  char32_t first, last, shown;
};

// General categories that changed between Unicode 14 and 16 (DerivedGeneralCategory.txt of both). One row is not about
// versions: U+180E is no white space, but PCRE2's \s still has it.
constexpr StandIn stand_ins[] = {
    {0x897, 0x897, mn3},     {0xCF3, 0xCF3, mc3},      {0xECE, 0xECE, mn3},      {0x180E, 0x180E, cf3},
    {0x1B4E, 0x1B4F, po3},   {0x1B7F, 0x1B7F, po3},    {0x1C89, 0x1C89, lu3},    {0x1C8A, 0x1C8A, ll3},
    {0x2427, 0x2429, so3},   {0x2FFC, 0x2FFF, so3},    {0x31E4, 0x31E5, so3},    {0x31EF, 0x31EF, so3},
    {0xA7CB, 0xA7CC, lu3},   {0xA7CD, 0xA7CD, ll3},    {0xA7DA, 0xA7DA, lu3},    {0xA7DB, 0xA7DB, ll3},
    {0xA7DC, 0xA7DC, lu3},   {0x105C0, 0x105F3, lo4},  {0x10D40, 0x10D49, nd4},  {0x10D4A, 0x10D4D, lo4},
    {0x10D4E, 0x10D4E, lm4}, {0x10D4F, 0x10D4F, lo4},  {0x10D50, 0x10D65, lu4},  {0x10D69, 0x10D6D, mn4},
    {0x10D6E, 0x10D6E, pd4}, {0x10D6F, 0x10D6F, lm4},  {0x10D70, 0x10D85, ll4},  {0x10D8E, 0x10D8F, sm4},
    {0x10EC2, 0x10EC4, lo4}, {0x10EFC, 0x10EFF, mn4},  {0x1123F, 0x11240, lo4},  {0x11241, 0x11241, mn4},
    {0x11380, 0x11389, lo4}, {0x1138B, 0x1138B, lo4},  {0x1138E, 0x1138E, lo4},  {0x11390, 0x113B5, lo4},
    {0x113B7, 0x113B7, lo4}, {0x113B8, 0x113BA, mc4},  {0x113BB, 0x113C0, mn4},  {0x113C2, 0x113C2, mc4},
    {0x113C5, 0x113C5, mc4}, {0x113C7, 0x113CA, mc4},  {0x113CC, 0x113CD, mc4},  {0x113CE, 0x113CE, mn4},
    {0x113CF, 0x113CF, mc4}, {0x113D0, 0x113D0, mn4},  {0x113D1, 0x113D1, lo4},  {0x113D2, 0x113D2, mn4},
    {0x113D3, 0x113D3, lo4}, {0x113D4, 0x113D5, po4},  {0x113D7, 0x113D8, po4},  {0x113E1, 0x113E2, mn4},
    {0x116D0, 0x116E3, nd4}, {0x1171E, 0x1171E, mc4},  {0x11B00, 0x11B09, po4},  {0x11BC0, 0x11BE0, lo4},
    {0x11BE1, 0x11BE1, po4}, {0x11BF0, 0x11BF9, nd4},  {0x11F00, 0x11F01, mn4},  {0x11F02, 0x11F02, lo4},
    {0x11F03, 0x11F03, mc4}, {0x11F04, 0x11F10, lo4},  {0x11F12, 0x11F33, lo4},  {0x11F34, 0x11F35, mc4},
    {0x11F36, 0x11F3A, mn4}, {0x11F3E, 0x11F3F, mc4},  {0x11F40, 0x11F40, mn4},  {0x11F41, 0x11F41, mc4},
    {0x11F42, 0x11F42, mn4}, {0x11F43, 0x11F4F, po4},  {0x11F50, 0x11F59, nd4},  {0x11F5A, 0x11F5A, mn4},
    {0x1342F, 0x1342F, lo4}, {0x13439, 0x1343F, cf4},  {0x13440, 0x13440, mn4},  {0x13441, 0x13446, lo4},
    {0x13447, 0x13455, mn4}, {0x13460, 0x143FA, lo4},  {0x16100, 0x1611D, lo4},  {0x1611E, 0x16129, mn4},
    {0x1612A, 0x1612C, mc4}, {0x1612D, 0x1612F, mn4},  {0x16130, 0x16139, nd4},  {0x16D40, 0x16D42, lm4},
    {0x16D43, 0x16D6A, lo4}, {0x16D6B, 0x16D6C, lm4},  {0x16D6D, 0x16D6F, po4},  {0x16D70, 0x16D79, nd4},
    {0x18CFF, 0x18CFF, lo4}, {0x1B132, 0x1B132, lo4},  {0x1B155, 0x1B155, lo4},  {0x1CC00, 0x1CCEF, so4},
    {0x1CCF0, 0x1CCF9, nd4}, {0x1CD00, 0x1CEB3, so4},  {0x1D2C0, 0x1D2D3, no4},  {0x1DF25, 0x1DF2A, ll4},
    {0x1E030, 0x1E06D, lm4}, {0x1E08F, 0x1E08F, mn4},  {0x1E4D0, 0x1E4EA, lo4},  {0x1E4EB, 0x1E4EB, lm4},
    {0x1E4EC, 0x1E4EF, mn4}, {0x1E4F0, 0x1E4F9, nd4},  {0x1E5D0, 0x1E5ED, lo4},  {0x1E5EE, 0x1E5EF, mn4},
    {0x1E5F0, 0x1E5F0, lo4}, {0x1E5F1, 0x1E5FA, nd4},  {0x1E5FF, 0x1E5FF, po4},  {0x1F6DC, 0x1F6DC, so4},
    {0x1F774, 0x1F776, so4}, {0x1F77B, 0x1F77F, so4},  {0x1F7D9, 0x1F7D9, so4},  {0x1F8B2, 0x1F8BB, so4},
    {0x1F8C0, 0x1F8C1, so4}, {0x1FA75, 0x1FA77, so4},  {0x1FA87, 0x1FA89, so4},  {0x1FA8F, 0x1FA8F, so4},
    {0x1FAAD, 0x1FAAF, so4}, {0x1FABB, 0x1FABF, so4},  {0x1FAC6, 0x1FAC6, so4},  {0x1FACE, 0x1FACF, so4},
    {0x1FADA, 0x1FADC, so4}, {0x1FADF, 0x1FADF, so4},  {0x1FAE8, 0x1FAE9, so4},  {0x1FAF7, 0x1FAF8, so4},
    {0x1FBCB, 0x1FBEF, so4}, {0x2B739, 0x2B739, han4}, {0x2EBF0, 0x2EE5D, han4}, {0x31350, 0x323AF, han4},
};

struct Range {
  char32_t first, last;
};

// Characters newer than Unicode 9 that have a combining class or a canonical decomposition or take part in one; ranges
// are joined where all that lies between is newer, too (UnicodeData.txt, DerivedAge.txt of Unicode 15 and 16).
constexpr Range newer_marks[] = {
    {0x7FD, 0x7FD},     {0x897, 0x89F},     {0x8CA, 0x8D3},     {0x9FE, 0x9FE},     {0xAFA, 0xAFF},
    {0xB55, 0xB55},     {0xC04, 0xC04},     {0xC3C, 0xC3C},     {0xCF3, 0xD00},     {0xD3B, 0xD3C},
    {0xD81, 0xD81},     {0xEBA, 0xEBA},     {0xECE, 0xECE},     {0x1715, 0x1715},   {0x180F, 0x180F},
    {0x1ABF, 0x1ACE},   {0x1CF7, 0x1CF7},   {0x1DF6, 0x1DFA},   {0xA82C, 0xA82C},   {0xA8FF, 0xA8FF},
    {0x105C9, 0x105E4}, {0x10D24, 0x10D6D}, {0x10EAB, 0x10F85}, {0x11070, 0x11074}, {0x110C2, 0x110C2},
    {0x11145, 0x11146}, {0x111CE, 0x111CF}, {0x11241, 0x11241}, {0x1133B, 0x1133B}, {0x11383, 0x113E2},
    {0x1145E, 0x1145E}, {0x1182C, 0x1183A}, {0x11930, 0x11A99}, {0x11D31, 0x11F5A}, {0x13440, 0x13455},
    {0x1611E, 0x1612F}, {0x16D63, 0x16D6A}, {0x16F4F, 0x16F4F}, {0x16F7F, 0x16F87}, {0x16FE4, 0x16FF1},
    {0x1CF00, 0x1CF46}, {0x1E08F, 0x1E5EF},
};

// Numeric characters of Unicode 17.
constexpr Range newest_digits[] = {{0x11DE0, 0x11DE9}, {0x16FF4, 0x16FF6}};

template <class Rows>
auto find_range(const Rows& rows, char32_t c) -> decltype(std::begin(rows)) {
  const auto row =
      std::lower_bound(std::begin(rows), std::end(rows), c, [](const auto& r, char32_t x) { return r.last < x; });
  return row != std::end(rows) && row->first <= c ? row : std::end(rows);
}

char32_t shown_for(char32_t c) {
  const auto row = find_range(stand_ins, c);
  return row == std::end(stand_ins) ? c : row->shown;
}

utf8proc_category_t category_of(char32_t c) { return utf8proc_category(static_cast<utf8proc_int32_t>(shown_for(c))); }

int combining_class(utf8proc_int32_t c) { return utf8proc_get_property(c)->combining_class; }

// NFC of characters that utf8proc knows as Unicode 9 does. Marks are sorted here, because utf8proc's own sort is
// quadratic in the length of a run of marks.
void normalize_known(const std::vector<utf8proc_int32_t>& characters, std::string& out) {
  constexpr auto options = static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | UTF8PROC_STABLE);
  std::vector<utf8proc_int32_t> decomposed;
  decomposed.reserve(characters.size());
  std::array<utf8proc_int32_t, 32> parts{};
  for (utf8proc_int32_t c : characters) {
    int boundary = 0;
    const auto n = utf8proc_decompose_char(c, parts.data(), parts.size(), options, &boundary);
    check(n >= 0 && n <= static_cast<utf8proc_ssize_t>(parts.size()), "utf8proc cannot decompose U+{:04X}", c);
    decomposed.insert(decomposed.end(), parts.begin(), parts.begin() + n);
  }
  for (auto first = decomposed.begin(); first != decomposed.end();) {
    if (combining_class(*first) == 0) {
      ++first;
      continue;
    }
    const auto last = std::find_if(first, decomposed.end(), [](auto c) { return combining_class(c) == 0; });
    std::stable_sort(first, last, [](auto a, auto b) { return combining_class(a) < combining_class(b); });
    first = last;
  }
  const auto n = utf8proc_normalize_utf32(decomposed.data(), static_cast<utf8proc_ssize_t>(decomposed.size()),
                                          static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
  check(n >= 0, "utf8proc cannot compose {} characters", decomposed.size());
  for (utf8proc_ssize_t i = 0; i < n; ++i)
    append_utf8(out, static_cast<char32_t>(decomposed[static_cast<std::size_t>(i)]));
}

}  // namespace

std::string_view regex_view(std::string_view text, std::string& storage) {
  bool copied = false;
  for (std::size_t at = 0; at < text.size();) {
    if (static_cast<unsigned char>(text[at]) < 0xE0) {  // no stand-in has fewer than three bytes
      ++at;
      continue;
    }
    const CodePoint c = decode_utf8(text, at);
    if (const char32_t shown = shown_for(c.value); shown != c.value) {
      if (!copied) storage = text;
      copied = true;
      std::string bytes;
      append_utf8(bytes, shown);
      storage.replace(at, c.length, bytes);
    }
    at += c.length;
  }
  return copied ? std::string_view(storage) : text;
}

bool is_space(char32_t c) {
  constexpr Range spaces[] = {{0x9, 0xD},       {0x20, 0x20},     {0x85, 0x85},     {0xA0, 0xA0},     {0x1680, 0x1680},
                              {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}};
  return find_range(spaces, c) != std::end(spaces);
}

bool is_numeric(char32_t c) {
  if (c < 0x80) return c >= U'0' && c <= U'9';
  const auto category = category_of(c);
  return category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_NL || category == UTF8PROC_CATEGORY_NO ||
         find_range(newest_digits, c) != std::end(newest_digits);
}

bool is_word(char32_t c) {
  const auto category = category_of(c);
  return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_ND) || category == UTF8PROC_CATEGORY_NL ||
         category == UTF8PROC_CATEGORY_PC;
}

std::string normalize_nfc(std::string_view text) {
  // Text below U+0300 is composed already, so only stretches with something above are normalised: from the character
  // before it, which may compose with a mark, to the next ASCII character, which composes with nothing before it.
  std::string out;
  out.reserve(text.size());
  std::vector<utf8proc_int32_t> stretch;
  bool above = false;
  std::size_t begin = 0;
  const auto flush = [&](std::size_t end) {
    if (above) {
      normalize_known(stretch, out);
    } else {
      out.append(text.substr(begin, end - begin));
    }
    stretch.clear();
    above = false;
    begin = end;
  };
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint c = decode_utf8(text, at);
    const bool newer = c.value >= 0x300 && find_range(newer_marks, c.value) != std::end(newer_marks);
    if (c.value < 0x80 || newer) flush(at);
    at += c.length;
    if (newer) {
      flush(at);
    } else {
      stretch.push_back(static_cast<utf8proc_int32_t>(c.value));
      above = above || c.value >= 0x300;
    }
  }
  flush(text.size());
  return out;
}

}  // namespace ptq

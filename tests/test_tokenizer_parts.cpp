// What tokenizers are made of: ill-formed UTF-8, the byte alphabet, NFC of Unicode 9, regular expressions as Oniguruma
// understands them, and the merge loop against its definition.
#include "model/bpe.h"
#include "model/byte_level.h"
#include "model/regex.h"
#include "model/unicode.h"
#include "model/utf8.h"
#include "temporary.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

namespace ptq {
namespace {

using Ids = std::vector<std::int32_t>;

std::string repaired(std::string_view text) {
  std::string storage;
  return std::string(repair_utf8(text, storage));
}

TEST(Utf8, OneReplacementForEachMaximalIllFormedPart) {
  const std::string bad = "\xEF\xBF\xBD";
  EXPECT_EQ(repaired("plain \xC3\xA9"), "plain \xC3\xA9");
  EXPECT_EQ(repaired("\x80"), bad);
  EXPECT_EQ(repaired("a\xC3"), "a" + bad);                         // ends early
  EXPECT_EQ(repaired("\xE2\x82 x"), bad + " x");                   // two good bytes of three are one part
  EXPECT_EQ(repaired("\xF0\x9F\x98"), bad);                        // three of four
  EXPECT_EQ(repaired("\xC0\xAF"), bad + bad);                      // overlong
  EXPECT_EQ(repaired("\xED\xA0\x80"), bad + bad + bad);            // surrogate
  EXPECT_EQ(repaired("\xF4\x90\x80\x80"), bad + bad + bad + bad);  // above U+10FFFF
  EXPECT_EQ(repaired(std::string("\0\xFF", 2)), std::string(1, '\0') + bad);
}

TEST(Utf8, RepairedTextIsWellFormedAndStays) {
  std::mt19937 random(1);
  for (int round = 0; round < 2000; ++round) {
    std::string text(random() % 40, '\0');
    for (char& c : text) c = static_cast<char>(random() % 3 == 0 ? random() % 256 : 0x80 + random() % 0x80);
    const std::string once = repaired(text);
    ASSERT_TRUE(is_utf8(once));
    ASSERT_EQ(repaired(once), once);
    ASSERT_EQ(is_utf8(text), once == text);
  }
}

TEST(ByteLevel, IsABijection) {
  std::string all, spelled, back;
  for (int b = 0; b < 256; ++b) all += static_cast<char>(b);
  append_byte_level(spelled, all);
  append_bytes_of(back, spelled);
  EXPECT_EQ(back, all);
  EXPECT_EQ(byte_characters()[' '], 0x120u);
  EXPECT_EQ(byte_characters()['\n'], 0x10Au);
  EXPECT_EQ(byte_of(0x3042), -1);
}

TEST(Nfc, ComposesOrdersAndKeeps) {
  EXPECT_EQ(normalize_nfc("e\u0301"), "\u00E9");
  EXPECT_EQ(normalize_nfc("a\u0301\u0323"), "\u1EA1\u0301");  // the lower mark first
  EXPECT_EQ(normalize_nfc("\u1112\u1161\u11AB"), "\uD55C");   // Hangul
  EXPECT_EQ(normalize_nfc("\u212B x"), "\u00C5 x");           // singleton
  EXPECT_EQ(normalize_nfc("plain"), "plain");
  EXPECT_EQ(normalize_nfc(""), "");
}

// Unicode 9 does not know these (README of the golden files).
TEST(Nfc, LeavesCharactersNewerThanUnicode9Alone) {
  EXPECT_EQ(normalize_nfc("\U00011935\U00011930"), "\U00011935\U00011930");
  EXPECT_EQ(normalize_nfc("a\u07FD\u0323"), "a\u07FD\u0323");
  EXPECT_EQ(normalize_nfc("a\u0345\u0898"), "a\u0345\u0898");
}

TEST(Nfc, ManyMarksAreNotQuadratic) {
  std::string marks = "a", expected = "a";
  constexpr int n = 200'000;
  for (int i = 0; i < n; ++i)
    marks += i % 2 == 0 ? "\u0334" : "\u0316";  // classes 1 and 220: sorting moves half of them
  for (int i = 0; i < n; ++i) expected += i < n / 2 ? "\u0334" : "\u0316";
  EXPECT_EQ(normalize_nfc(marks), expected);
}

TEST(UnicodeView, ShowsNewLettersAsOldOnesOfTheSameLength) {
  std::string storage;
  const std::string known = "abc \u00E9 \u3042 \U0001F600";
  EXPECT_EQ(regex_view(known, storage).data(), known.data());
  const std::string newer = "x\U00031350\U00010D4A\uA7CBy";
  const std::string_view shown = regex_view(newer, storage);
  EXPECT_EQ(shown.size(), newer.size());
  EXPECT_NE(shown, newer);
  std::vector<Span> spans;
  const Regex letters("\\p{L}+", "test");
  Regex::Matcher(letters).find_all(newer, spans);
  ASSERT_EQ(spans.size(), 1u);
  EXPECT_EQ(spans[0].end, newer.size());
}

std::vector<std::string> matches(const std::string& pattern, const std::string& text) {
  std::vector<Span> spans;
  const Regex regex(pattern, "test");
  Regex::Matcher(regex).find_all(text, spans);
  std::vector<std::string> out;
  for (const Span& s : spans) out.push_back(text.substr(s.begin, s.end - s.begin));
  return out;
}

TEST(RegexTest, FindsAllMatches) {
  using Strings = std::vector<std::string>;
  EXPECT_EQ(matches("a*", "aab"), (Strings{"aa", ""}));  // the empty match behind "aa" does not count
  EXPECT_EQ(matches("\\s+(?!\\S)|\\s+", "a   b"), (Strings{"  ", " "}));
  EXPECT_EQ(matches("(?i:'s)", "'S'\u017F"), (Strings{"'S", "'\u017F"}));
  EXPECT_EQ(matches("[a[bc]]+", "xabcx"), (Strings{"abc"}));  // a class in a class is a union
  EXPECT_EQ(matches("^b$", "a\nb\nc"), (Strings{"b"}));       // Ruby's anchors are those of lines
  EXPECT_EQ(matches("\\p{Han}+", "a\u4E2D\u3001"), (Strings{"\u4E2D"}));
}

TEST(RegexTest, RefusesWhatPcreUnderstandsDifferently) {
  for (const char* pattern :
       {"\\w+", "\\h", "\\bx", "a{1,2}+", "[a&&b]", "[a[^b]]", "[[:alpha:]]", "(?m:.)", "a(?i)b", "(?<n>a)"}) {
    expect_error(Exit::data, "understands differently", [&] { Regex(pattern, "test"); });
  }
  for (const char* pattern : {"(", "[a", "\\p{Nonsense}", "a{2,1}", "*"}) {
    expect_error(Exit::data, "test", [&] { Regex(pattern, "test"); });
  }
}

TEST(RegexTest, StopsRunawayPatterns) {
  expect_error(Exit::data, "cannot be matched", [] { matches("(a|aa)+$", std::string(64, 'a') + "!"); });
  // Long runs of one class are fine.
  EXPECT_EQ(matches("\\s+(?!\\S)|\\s+", std::string(1'000'000, ' ') + "x").size(), 2u);
}

// Merging by definition: look for the lowest rank, leftmost, again and again.
Ids merged_slowly(Ids symbols, const std::map<std::pair<int, int>, std::pair<int, int>>& merges) {
  while (true) {
    std::size_t best = symbols.size();
    int rank = 1 << 30;
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
      const auto m = merges.find({symbols[i], symbols[i + 1]});
      if (m == merges.end() || m->second.first >= rank) continue;
      rank = m->second.first;
      best = i;
    }
    if (best == symbols.size()) return symbols;
    symbols[best] = merges.at({symbols[best], symbols[best + 1]}).second;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

TEST(BpeTest, EqualsTheDefinition) {
  std::mt19937 random(2);
  for (int round = 0; round < 300; ++round) {
    std::map<std::pair<int, int>, std::pair<int, int>> merges;
    Bpe bpe;
    const int letters = 2 + static_cast<int>(random() % 4);
    for (int rank = 0; rank < 40; ++rank) {
      const int a = static_cast<int>(random()) % (letters + rank), b = static_cast<int>(random()) % (letters + rank);
      if (a < 0 || b < 0) continue;
      bpe.add(a, b, rank, letters + rank);
      merges.try_emplace({a, b}, rank, letters + rank);
    }
    Ids symbols(random() % 200);  // both the short and the long way
    for (auto& s : symbols) s = static_cast<int>(random() % static_cast<unsigned>(letters));
    const Ids expected = merged_slowly(symbols, merges);
    bpe.merge(symbols);
    ASSERT_EQ(symbols, expected) << round;
  }
}

}  // namespace
}  // namespace ptq

// SentencePiece models: the validator in front of the library, plain and Hugging Face encoding of a model built here,
// and damaged copies of good models, which must give an Error or a working tokenizer, never a crash.
#include "golden_path.h"
#include "model/sentencepiece_check.h"
#include "model/sentencepiece_tokenizer.h"
#include "temporary.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <random>

namespace ptq {
namespace {

using Ids = std::vector<std::int32_t>;

std::string varint(std::uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  return out + static_cast<char>(value);
}
std::string tag(unsigned number, unsigned wire) { return varint(number << 3 | wire); }
std::string bytes_field(unsigned number, std::string_view bytes) {
  return tag(number, 2) + varint(bytes.size()) + std::string(bytes);
}
std::string int_field(unsigned number, std::uint64_t value) { return tag(number, 0) + varint(value); }
std::string float_field(unsigned number, float value) {
  std::string out = tag(number, 5);
  for (int i = 0; i < 4; ++i) out += static_cast<char>(std::bit_cast<std::uint32_t>(value) >> (8 * i));
  return out;
}
std::string piece(std::string_view text, float score, unsigned type = 1) {
  return bytes_field(1, bytes_field(1, text) + float_field(2, score) + (type == 1 ? "" : int_field(3, type)));
}

constexpr int mark = 259, a = 260, b = 261, mark_a = 262, ab = 263, control = 264;

std::string pieces_of_model() {
  std::string out = piece("<unk>", 0, 2) + piece("<s>", 0, 3) + piece("</s>", 0, 3);
  for (int i = 0; i < 256; ++i) out += piece(fmt::format("<0x{:02X}>", i), 0, 6);
  return out + piece("\u2581", -3) + piece("a", -4) + piece("b", -5) + piece("\u2581a", -1) + piece("ab", -2) +
         piece("<ctl>", 0, 3);
}
const std::string trainer = bytes_field(2, int_field(3, 2) + int_field(35, 1));
const std::string normalizer =
    bytes_field(3, bytes_field(1, "identity") + int_field(3, 1) + int_field(4, 0) + int_field(5, 1));

std::string good_model() { return pieces_of_model() + trainer + normalizer; }

std::unique_ptr<Tokenizer> plain(const std::string& bytes) {
  return make_sentencepiece_tokenizer(bytes, "tokenizer.model", {});
}

TEST(SentencePiece, PlainIsTheLibrary) {
  const auto t = plain(good_model());
  EXPECT_EQ(t->encode("a ab"), (Ids{mark_a, mark_a, b}));
  EXPECT_EQ(t->encode(" a"), (Ids{mark, mark_a}));
  EXPECT_EQ(t->encode("<s>").size(), 4u);  // plain text: the mark and three bytes
  EXPECT_EQ(t->encode("\u00E9"), (Ids{mark, 3 + 0xC3, 3 + 0xA9}));
  EXPECT_EQ(t->encode("\xC3"), t->encode("\uFFFD"));
  EXPECT_EQ(t->encode(""), Ids{});
  EXPECT_EQ(t->decode(t->encode("a \u00E9 b")), "a \u00E9 b");
  EXPECT_EQ(t->decode(Ids{a, 100000, -5, b}), "ab");
  EXPECT_EQ(t->vocab_size(), 265);
  EXPECT_EQ(t->prefix(), (Ids{1}));
  EXPECT_EQ(t->eos(), 2);
}

TEST(SentencePiece, HuggingFaceRules) {
  TokenizerConfig config;
  config.present = true;
  const auto legacy = make_sentencepiece_tokenizer(good_model(), "m", config);
  config.legacy = false;
  const auto modern = make_sentencepiece_tokenizer(good_model(), "m", config);
  for (const auto& t : {&legacy, &modern}) {
    EXPECT_EQ((*t)->encode("a ab"), (Ids{mark_a, mark_a, b}));
    EXPECT_EQ((*t)->encode("<s>"), (Ids{1}));
    EXPECT_EQ((*t)->encode("<ctl><unk>"), (Ids{control, 0}));
    EXPECT_EQ((*t)->decode(Ids{mark_a, 1, ab}), "a<s>ab");
    EXPECT_EQ((*t)->prefix(), (Ids{1}));
  }
  EXPECT_EQ(legacy->encode(" a"), (Ids{mark, mark_a}));
  EXPECT_EQ(modern->encode(" a"), (Ids{mark_a}));
  EXPECT_EQ(legacy->encode("a<s>a"), (Ids{mark_a, 1, mark_a}));
  EXPECT_EQ(modern->encode("a<s>a"), (Ids{mark_a, 1, a}));
  EXPECT_EQ(modern->encode("a<s> a"), (Ids{mark_a, 1, mark_a}));
  config.add_bos = false;
  config.added = {{.content = "<new>", .id = 265}};
  const auto added = make_sentencepiece_tokenizer(good_model(), "m", config);
  EXPECT_EQ(added->prefix(), Ids{});
  EXPECT_EQ(added->encode("a<new>"), (Ids{mark_a, 265}));
  EXPECT_EQ(added->vocab_size(), 266);
}

TEST(SentencePiece, ValidatorRefuses) {
  const auto refuse = [](std::string_view part, const std::string& bytes) {
    expect_error(Exit::data, part, [&] { check_sentencepiece(bytes, "tokenizer.model"); });
  };
  const std::string pieces = pieces_of_model(), good = good_model();
  EXPECT_EQ(check_sentencepiece(good, "m").pieces.size(), 265u);
  refuse("no pieces", "");
  refuse("no pieces", trainer + normalizer);
  refuse("trainer_spec is missing", pieces + normalizer);
  refuse("normalizer_spec is missing", pieces + trainer);
  refuse("second trainer_spec", good + trainer);
  refuse("second normalizer_spec", good + normalizer);
  refuse("left", good.substr(0, good.size() - 1));
  refuse("left", good + tag(1, 2) + varint(1'000'000));
  refuse("left", good + tag(1, 2) + varint(~std::uint64_t{0}));
  refuse("more than 64 bits", good + std::string(11, '\xFF'));
  refuse("bad wire type", good + tag(9, 3));
  refuse("bad field number", good + varint(0));
  refuse("wire type", good + int_field(1, 5));
  refuse("empty", good + piece("", 0));
  refuse("empty", good + bytes_field(1, float_field(2, 0)));
  refuse("more than 1024", good + piece(std::string(1025, 'x'), 0));
  refuse("UTF-8", good + piece("x\xFF", 0));
  refuse("UTF-8", good + piece(std::string_view("x\0y", 3), 0));
  refuse("occurs twice", good + piece("ab", -9));
  refuse("score", good + piece("x", std::nanf("")));
  refuse("score", good + piece("x", INFINITY));
  refuse("unknown type 7", good + piece("x", 0, 7));
  refuse("type 0", good + piece("x", 0, 0));
  refuse("pieces of type unknown", good + piece("x", 0, 2));
  refuse("pieces of type unknown", piece("x", 0) + trainer + normalizer);
  refuse("score has wire type", good + bytes_field(1, bytes_field(1, "x") + int_field(2, 0)));
  refuse("piece has wire type", good + bytes_field(1, int_field(1, 0)));
  refuse("character map of 3 bytes", pieces + trainer + bytes_field(3, bytes_field(2, "xyz")));
  refuse("model type 1", pieces + bytes_field(2, "") + normalizer);  // unigram is the default
  refuse("model type 4", pieces + bytes_field(2, int_field(3, 4)) + normalizer);
  refuse("model_type has wire type", pieces + bytes_field(2, bytes_field(3, "")) + normalizer);
  refuse("special piece", pieces + bytes_field(2, int_field(3, 2) + bytes_field(45, "\xFF")) + normalizer);
  refuse("more than 67108864", std::string((std::size_t{64} << 20) + 1, '\x0A'));
}

// What the library itself refuses comes out as an Error, too.
TEST(SentencePiece, LibraryErrorsAreErrors) {
  const std::string missing_byte = piece("<unk>", 0, 2) + piece("<0x00>", 0, 6) + trainer + normalizer;
  expect_error(Exit::data, "libsentencepiece", [&] { plain(missing_byte); });
}

void damage(const std::string& good, int rounds, unsigned seed, const std::string& text) {
  std::mt19937 random(seed);
  int loaded = 0;
  for (int round = 0; round < rounds; ++round) {
    std::string bytes = good;
    if (round % 4 == 0) {
      bytes.resize(random() % bytes.size());
    } else if (round % 4 == 1) {
      bytes[random() % bytes.size()] = static_cast<char>(random() % 256);
    } else {
      for (unsigned n = 1 + random() % 8; n > 0; --n) {
        bytes[random() % bytes.size()] ^= static_cast<char>(1u << (random() % 8));
      }
    }
    try {
      TokenizerConfig config;
      config.present = random() % 2 == 0;
      const auto t = make_sentencepiece_tokenizer(bytes, "damaged", config);
      const Ids ids = t->encode(text);
      for (std::int32_t id : ids) ASSERT_TRUE(id >= 0 && id < t->vocab_size());
      t->decode(ids);
      ++loaded;
    } catch (const Error& e) {
      ASSERT_EQ(e.code(), Exit::data) << e.what();
      ASSERT_EQ(std::string(e.what()).find('\n'), std::string::npos) << e.what();
    }
  }
  EXPECT_GT(loaded, 0);  // a file without a checksum: a changed letter in a piece is not visible
}

TEST(SentencePiece, SurvivesDamage) { damage(good_model(), 6000, 4, "a ab <s>\u00E9 <ctl>b"); }

TEST(SentencePiece, SurvivesDamageToARealModel) {
  PTQ_NEED(models, "PTQ_MODELS", "stories260K/tokenizer.model");
  damage(get(models), 4000, 5, "Once upon a time, there was a <s> \u00E9\u4E2D.");
}

}  // namespace
}  // namespace ptq

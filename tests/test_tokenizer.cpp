// Tokenizers on small in-tree files: every step of tokenizer.json, vocab.json + merges.txt, tiktoken, and hostile
// files. Their parts have test_tokenizer_parts.cpp, SentencePiece test_sentencepiece.cpp, real models
// test_tokenizer_golden.cpp.
#include "model/byte_level.h"
#include "tiny_tokenizer.h"

#include <gtest/gtest.h>

#include <random>

namespace ptq {
namespace {

using Ids = std::vector<std::int32_t>;

TEST(TokenizerJsonFile, ByteLevelMergesInsidePieces) {
  const auto t = load(byte_level_json({{"l", "o"}, {"lo", "w"}, {space, "low"}}));
  EXPECT_EQ(t->encode("low low lo"), (Ids{257, 258, ' ', 256}));
  EXPECT_EQ(t->encode("lo-w"), (Ids{256, '-', 'w'}));  // pieces do not merge with each other
  EXPECT_EQ(t->encode(""), Ids{});
  EXPECT_EQ(t->encode(std::string_view("\0\xC3", 2)), (Ids{0, 0xEF, 0xBF, 0xBD}));
  EXPECT_EQ(t->decode(t->encode("low \u00E9\n")), "low \u00E9\n");
  EXPECT_EQ(t->decode(Ids{0xC3, 'x', 100000, -1}), "\uFFFDx");  // unknown ids vanish
  EXPECT_EQ(t->vocab_size(), 259);
  EXPECT_EQ(t->prefix(), Ids{});
  EXPECT_EQ(t->bos(), -1);
}

TEST(TokenizerJsonFile, BothSpellingsOfMerges) {
  Json json = byte_level_json({{"a", "b"}});
  const auto strings = load(json);
  json["model"]["merges"] = Json::array({Json::array({"a", "b"})});
  EXPECT_EQ(load(json)->encode("abab"), strings->encode("abab"));
}

TEST(TokenizerJsonFile, BytesThatTheVocabularyLacksVanish) {
  Json json = byte_level_json({});
  json["model"]["vocab"].erase("x");
  EXPECT_EQ(load(json)->encode("axb"), (Ids{'a', 'b'}));
  json["model"]["unk_token"] = "?";
  EXPECT_EQ(load(json)->encode("axxb"), (Ids{'a', '?', '?', 'b'}));
  json["model"]["fuse_unk"] = true;
  EXPECT_EQ(load(json)->encode("axxb"), (Ids{'a', '?', 'b'}));
}

TEST(TokenizerJsonFile, IgnoreMergesTakesWholePieces) {
  Json json = byte_level_json({{"a", "b"}});
  json["model"]["vocab"]["abc"] = 300;  // no merge leads there
  EXPECT_EQ(load(json)->encode("abc"), (Ids{256, 'c'}));
  json["model"]["ignore_merges"] = true;
  EXPECT_EQ(load(json)->encode("abc"), (Ids{300}));
  EXPECT_EQ(load(json)->encode("abcd"), (Ids{256, 'c', 'd'}));
}

TEST(TokenizerJsonFile, AddedTokensAreLeftmostLongest) {
  Json json = byte_level_json({});
  json["added_tokens"] = {added("<a>", 256), added("<a><b>", 257), added("<b>", 258), added("a>", 259)};
  const auto t = load(json);
  EXPECT_EQ(t->encode("<a><b><b><a"), (Ids{257, 258, '<', 'a'}));
  EXPECT_EQ(t->encode("x<a>"), (Ids{'x', 256}));
  EXPECT_EQ(t->encode("<a> a>"), (Ids{256, ' ', 259}));
  EXPECT_EQ(t->decode(Ids{257, 'x'}), "<a><b>x");
  EXPECT_EQ(t->vocab_size(), 260);
}

TEST(TokenizerJsonFile, AddedTokensTakeSpacesAndStandAlone) {
  Json json = byte_level_json({});
  json["added_tokens"] = {added("<l>", 256, {{"lstrip", true}}), added("<r>", 257, {{"rstrip", true}}),
                          added("wo", 258, {{"single_word", true}})};
  const auto t = load(json);
  EXPECT_EQ(t->encode("a \n<l> b"), (Ids{'a', 256, ' ', 'b'}));
  EXPECT_EQ(t->encode("a <r>\u3000\tb"), (Ids{'a', ' ', 257, 'b'}));
  EXPECT_EQ(t->encode("<r> <l>"), (Ids{257, 256}));  // the space is taken once
  EXPECT_EQ(t->encode("wo-two_wo wo"), (Ids{258, '-', 't', 'w', 'o', '_', 'w', 'o', ' ', 258}));
}

TEST(TokenizerJsonFile, NormalizedTokensAreSoughtInNormalizedText) {
  Json json = byte_level_json({});
  json["normalizer"] = {{"type", "NFC"}};
  json["added_tokens"] = {added("\u00E9", 256, {{"normalized", true}}), added("\u00E8", 257)};
  const auto t = load(json);
  EXPECT_EQ(t->encode("e\u0301"), (Ids{256}));
  EXPECT_EQ(t->encode("e\u0300"), (Ids{0xC3, 0xA8}));  // composed only after the search
  EXPECT_EQ(t->encode("\u00E8"), (Ids{257}));
}

std::vector<std::string> pieces(const Json& pre_tokenizer, const std::string& text) {
  Json json = byte_level_json({});
  json["pre_tokenizer"] = {
      {"type", "Sequence"},
      {"pretokenizers", {pre_tokenizer, {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
  // Every piece is one token, so that the ids show where the cuts are.
  json["model"]["ignore_merges"] = true;
  int id = 1000;
  for (std::size_t begin = 0; begin < text.size(); ++begin) {
    for (std::size_t n = 2; begin + n <= text.size(); ++n) {
      std::string spelled;
      append_byte_level(spelled, text.substr(begin, n));
      if (!json["model"]["vocab"].contains(spelled)) json["model"]["vocab"][spelled] = id++;
    }
  }
  const auto t = load(json);
  std::vector<std::string> out;
  for (std::int32_t i : t->encode(text)) out.push_back(t->decode(Ids{i}));
  return out;
}

TEST(PreTokenizers, SplitBehaviors) {
  using Strings = std::vector<std::string>;
  const auto split = [](const std::string& behavior, bool invert = false) {
    return pieces({{"type", "Split"}, {"pattern", {{"Regex", "-"}}}, {"behavior", behavior}, {"invert", invert}},
                  "a--bc-");
  };
  EXPECT_EQ(split("Isolated"), (Strings{"a", "-", "-", "bc", "-"}));
  EXPECT_EQ(split("Removed"), (Strings{"a", "bc"}));
  EXPECT_EQ(split("Removed", true), (Strings{"-", "-", "-"}));
  EXPECT_EQ(split("MergedWithPrevious"), (Strings{"a-", "-", "bc-"}));
  EXPECT_EQ(split("MergedWithNext"), (Strings{"a", "-", "-bc", "-"}));
  EXPECT_EQ(split("Contiguous"), (Strings{"a", "--", "bc", "-"}));
  EXPECT_EQ(pieces({{"type", "Split"}, {"pattern", {{"String", "--"}}}, {"behavior", "Isolated"}}, "a--bc-"),
            (Strings{"a", "--", "bc-"}));
}

TEST(PreTokenizers, DigitsAloneOrTogether) {
  using Strings = std::vector<std::string>;
  EXPECT_EQ(pieces({{"type", "Digits"}, {"individual_digits", true}}, "a12 3"), (Strings{"a", "1", "2", " ", "3"}));
  EXPECT_EQ(pieces({{"type", "Digits"}, {"individual_digits", false}}, "a12 3"), (Strings{"a", "12", " ", "3"}));
  EXPECT_EQ(pieces({{"type", "Digits"}, {"individual_digits", true}}, "x\u00BD\u0664"),
            (Strings{"x", "\u00BD", "\u0664"}));
}

TEST(PreTokenizers, PrefixSpace) {
  Json json = byte_level_json({});
  json["pre_tokenizer"]["add_prefix_space"] = true;
  EXPECT_EQ(load(json)->encode("a"), (Ids{' ', 'a'}));
  EXPECT_EQ(load(json)->encode(" a"), (Ids{' ', 'a'}));
}

TEST(TokenizerJsonFile, MetaspaceAndByteFallback) {
  constexpr int mark = 257, a = 258, b = 259, mark_a = 260, ab = 261;
  const auto t = load(metaspace_json());
  EXPECT_EQ(t->encode("a ab"), (Ids{mark_a, mark_a, b}));  // the merge of lower rank comes first
  EXPECT_EQ(t->encode("bab"), (Ids{mark, b, ab}));
  EXPECT_EQ(t->encode(" a"), (Ids{mark_a}));    // no second mark
  EXPECT_EQ(t->encode("<unk>a"), (Ids{0, a}));  // only at the very start
  EXPECT_EQ(t->encode("\u00E9"), (Ids{mark, 1 + 0xC3, 1 + 0xA9}));
  EXPECT_EQ(t->decode(t->encode("a \u00E9 b")), "a \u00E9 b");
  EXPECT_EQ(t->decode(Ids{1 + 0xC3, 1 + 'x', a}), "\uFFFD\uFFFDa");  // ill-formed together: one for each byte
  // Without all byte tokens a character is unknown, and neighbours fuse.
  Json json = metaspace_json();
  json["model"]["vocab"].erase("<0xC3>");
  EXPECT_EQ(load(json)->encode("a\u00E9\u00EAb"), (Ids{mark_a, 0, b}));
  // The same by normalizers (Prepend and Replace), which mark every stretch of text.
  json = metaspace_json();
  json["pre_tokenizer"] = nullptr;
  json["normalizer"] = {{"type", "Sequence"},
                        {"normalizers",
                         {{{"type", "Prepend"}, {"prepend", "\u2581"}},
                          {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}}}}};
  EXPECT_EQ(load(json)->encode("a b<unk>a"), (Ids{mark_a, mark, b, 0, mark_a}));
  EXPECT_EQ(load(json)->encode(" a"), (Ids{mark, mark_a}));
}

TEST(TokenizerJsonFile, LongWordsTakeNoQuadraticTime) {
  const auto t = load(metaspace_json());
  std::string text;
  for (int i = 0; i < 1'000'000; ++i) text += i % 3 == 0 ? " " : "a";
  EXPECT_EQ(t->decode(t->encode(text)), text.substr(1));  // minutes if it were
}

TEST(TokenizerJsonFile, BosFromTemplateAndConfiguration) {
  Json json = byte_level_json({});
  json["added_tokens"] = {added("<s>", 256), added("</s>", 257)};
  const Json bos = {{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}};
  const Json eos = {{"SpecialToken", {{"id", "</s>"}, {"type_id", 0}}}};
  const Json text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  json["post_processor"] = {
      {"type", "TemplateProcessing"},
      {"single", {bos, text, eos}},
      {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {256}}}}, {"</s>", {{"id", "</s>"}, {"ids", {257}}}}}}};
  EXPECT_EQ(load(json)->prefix(), (Ids{256}));  // what stands behind the text is not a prefix
  EXPECT_EQ(load(json)->bos(), 256);
  const std::string names = R"("bos_token": "<s>", "eos_token": {"content": "</s>"})";
  EXPECT_EQ(load(json, "{" + names + "}")->eos(), 257);
  EXPECT_EQ(load(json, "{" + names + R"(, "add_bos_token": false})")->prefix(), Ids{});
  json["post_processor"] = nullptr;
  EXPECT_EQ(load(json, "{" + names + "}")->prefix(), Ids{});
  EXPECT_EQ(load(json, "{" + names + R"(, "add_bos_token": true})")->prefix(), (Ids{256}));
  // Llama-3's first tokenizer.json has no template.
  json["added_tokens"][0]["content"] = "<|begin_of_text|>";
  EXPECT_EQ(load(json, R"({"bos_token": "<|begin_of_text|>"})")->prefix(), (Ids{256}));
}

TEST(TokenizerJsonFile, RefusesByName) {
  const auto refuse = [](std::string_view part, auto change) {
    Json json = byte_level_json({{"a", "b"}});
    change(json);
    expect_error(Exit::data, part, [&] { load(json); });
  };
  refuse("\"Whitespace\" is not supported", [](Json& j) { j["pre_tokenizer"] = {{"type", "Whitespace"}}; });
  refuse("\"NFKC\" is not supported", [](Json& j) { j["normalizer"] = {{"type", "NFKC"}}; });
  refuse("\"WordPiece\" is not supported", [](Json& j) { j["decoder"] = {{"type", "WordPiece"}}; });
  refuse("\"Foo\" is not supported", [](Json& j) { j["post_processor"] = {{"type", "Foo"}}; });
  refuse("\"Unigram\" is not supported", [](Json& j) { j["model"]["type"] = "Unigram"; });
  refuse("end_of_word_suffix", [](Json& j) { j["model"]["end_of_word_suffix"] = "</w>"; });
  refuse("dropout", [](Json& j) { j["model"]["dropout"] = 0.1; });
  refuse("after ByteLevel", [](Json& j) {
    const Json step = j["pre_tokenizer"];
    j["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {step, {{"type", "Digits"}}}}};
  });
  refuse("\"first\" after a normalizer", [](Json& j) {
    j["pre_tokenizer"] = {{"type", "Metaspace"}, {"prepend_scheme", "first"}};
    j["normalizer"] = {{"type", "Prepend"}, {"prepend", "x"}};
  });
  refuse("not in the vocabulary", [](Json& j) { j["model"]["merges"].push_back("a zz"); });
  refuse("not in the vocabulary", [](Json& j) { j["model"]["merges"].push_back("b a"); });  // no "ba"
  refuse("not two tokens", [](Json& j) { j["model"]["merges"].push_back("abc"); });
  refuse("parts, not two", [](Json& j) { j["model"]["merges"].push_back(Json::array({"a"})); });
  refuse("list of merges", [](Json& j) { j["model"]["merges"].push_back(7); });
  refuse("vocabulary holds", [](Json& j) { j["model"]["vocab"]["q2"] = "7"; });
  refuse("vocabulary holds", [](Json& j) { j["model"]["vocab"]["q2"] = -7; });
  refuse("outside [0", [](Json& j) { j["model"]["vocab"]["q2"] = 1'000'000'000'000; });
  refuse("belongs to both", [](Json& j) { j["model"]["vocab"]["q2"] = 7; });
  refuse("unk_token", [](Json& j) { j["model"]["unk_token"] = "nowhere"; });
  refuse("model", [](Json& j) { j.erase("model"); });
  refuse("model.vocab is missing", [](Json& j) { j["model"].erase("vocab"); });
  refuse("added token", [](Json& j) { j["added_tokens"] = {added("", 256)}; });
  refuse("added token", [](Json& j) { j["added_tokens"] = {added(std::string(10000, 'x'), 256)}; });
  refuse("occurs twice", [](Json& j) { j["added_tokens"] = {added("x", 256), added("x", 257)}; });
  refuse("not a list", [](Json& j) { j["added_tokens"] = "x"; });
}

TEST(TokenizerJsonFile, MalformedFilesAreRefused) {
  const std::string good = byte_level_json({{"a", "b"}}).dump();
  const auto refuse = [](const std::string& text, std::string_view part) {
    const TemporaryDirectory directory;
    put(directory / "tokenizer.json", text);
    expect_error(Exit::data, part, [&] { load_tokenizer(directory.path()); });
  };
  refuse("", "malformed JSON at byte");
  refuse("[]", "must be a JSON object");
  refuse("7", "must be a JSON object");
  refuse(good + "x", "malformed JSON at byte");
  refuse(good + std::string(1, '\0'), "NUL");
  refuse(R"({"model": {"vocab": {"a": 0, "a": 1}}})", "occurs twice");
  refuse(R"({"model": {"vocab": {"a": 0}, "vocab": {"b": 0}}})", "two vocabularies");
  refuse(R"({"a": 1, "a": 2})", "occurs twice");
  refuse("{\"a\": \"\xFF\"}", "malformed JSON");
  refuse("{\"a\": " + std::string(100'000, '['), "nested deeper");
}

// Every truncation and many damaged bytes: an Error or a tokenizer that works, never a crash.
TEST(TokenizerJsonFile, SurvivesDamage) {
  Json json = metaspace_json();
  json["added_tokens"].push_back(added("<x>", 300, {{"lstrip", true}}));
  const std::string good = json.dump();
  std::mt19937 random(3);
  const TemporaryDirectory directory;
  int loaded = 0;
  for (int round = 0; round < 2000; ++round) {
    std::string text = good;
    if (round % 3 == 0) {
      text.resize(random() % text.size());
    } else {
      for (unsigned n = 1 + random() % 4; n > 0; --n) text[random() % text.size()] = static_cast<char>(random() % 256);
    }
    put(directory / "tokenizer.json", text);
    try {
      const auto t = load_tokenizer(directory.path());
      for (std::int32_t id : t->encode("a b <x> \u00E9<unk>")) ASSERT_LT(id, t->vocab_size());
      ++loaded;
    } catch (const Error& e) {
      ASSERT_EQ(e.code(), Exit::data) << e.what();
      ASSERT_EQ(std::string(e.what()).find('\n'), std::string::npos) << e.what();
    }
  }
  EXPECT_GT(loaded, 0);  // damage inside strings is not visible
}

TEST(Gpt2Files, OptAndGpt2) {
  Json vocab = byte_level_json({})["model"]["vocab"];
  Json opt;
  for (const auto& [symbol, id] : vocab.items()) opt[symbol] = id.get<int>() + 10;
  opt["<s>"] = 0;
  opt["<pad>"] = 1;
  opt["</s>"] = 2;
  opt["<unk>"] = 3;
  opt["ab"] = 4;
  const TemporaryDirectory directory;
  put(directory / "vocab.json", opt.dump());
  put(directory / "merges.txt", "#version: 0.2\na b\r\n");
  auto t = load_tokenizer(directory.path());
  EXPECT_EQ(t->encode("ab</s><pad>"), (Ids{4, 2, 1}));
  EXPECT_EQ(t->encode("<s>").size(), 3u);  // plain text
  EXPECT_EQ(t->prefix(), (Ids{2}));
  EXPECT_EQ(t->eos(), 2);
  put(directory / "tokenizer_config.json", R"({"bos_token": "<s>", "add_bos_token": false})");
  t = load_tokenizer(directory.path());
  EXPECT_EQ(t->encode("<s></s>").size(), 5u);  // now only <s> is special
  EXPECT_EQ(t->prefix(), Ids{});

  const TemporaryDirectory gpt2;
  vocab["<|endoftext|>"] = 256;
  put(gpt2 / "vocab.json", vocab.dump());
  put(gpt2 / "merges.txt", "");
  t = load_tokenizer(gpt2.path());
  EXPECT_EQ(t->encode("a<|endoftext|>"), (Ids{'a', 256}));
  EXPECT_EQ(t->prefix(), Ids{});

  put(gpt2 / "merges.txt", "a b c\n");
  expect_error(Exit::data, "not two tokens", [&] { load_tokenizer(gpt2.path()); });
  put(gpt2 / "merges.txt", "");
  for (const char* bad : {"[]", "7", "{}", R"({"a": {}})", R"({"a": 1.5})"}) {
    put(gpt2 / "vocab.json", bad);
    expect_error(Exit::data, "vocab", [&] { load_tokenizer(gpt2.path()); });
  }
}

std::string base64(std::string_view bytes) {
  static constexpr char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    unsigned bits = 0;
    for (std::size_t k = 0; k < 3; ++k)
      bits = (bits << 8) | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0u);
    for (std::size_t k = 0; k < 4; ++k) out += i + k > bytes.size() ? '=' : digits[(bits >> (18 - 6 * k)) & 63];
  }
  return out;
}

TEST(TiktokenFiles, RanksAndLlama3Specials) {
  std::string file;
  for (int b = 0; b < 256; ++b) file += base64(std::string(1, static_cast<char>(b))) + " " + std::to_string(b) + "\n";
  file += base64("aa") + " 256\n" + base64("aaa") + " 257\n" + base64(" x") + " 258\n";
  const TemporaryDirectory directory;
  put(directory / "tokenizer.model", file);
  auto t = load_tokenizer(directory.path());
  EXPECT_EQ(t->vocab_size(), 259 + 256);
  EXPECT_EQ(t->prefix(), (Ids{259}));
  EXPECT_EQ(t->eos(), 260);
  EXPECT_EQ(t->encode("aaaa"), (Ids{256, 256}));  // by rank of the result, leftmost first
  EXPECT_EQ(t->encode("aaa x"), (Ids{257, 258}));
  EXPECT_EQ(t->encode("<|eot_id|>").size(), 10u);  // plain text
  EXPECT_EQ(t->decode(Ids{259, 'a', 259 + 9}), "<|begin_of_text|>a<|eot_id|>");
  put(directory / "tokenizer_config.json",
      R"({"added_tokens_decoder": {"268": {"content": "<|eot_id|>", "special": true}}})");
  EXPECT_EQ(load_tokenizer(directory.path())->encode("<|eot_id|>"), (Ids{268}));
  for (const char* bad :
       {"YQ== x\n", "YQ= 0\n", "Y*== 0\n", "YQ==\n", "YQ== 0\nYQ== 1\n", "YQ== 1\n", "YQ== 0 0\n", "", "\n"}) {
    put(directory / "tokenizer.model", bad);
    expect_error(Exit::data, "tokenizer.model", [&] { load_tokenizer(directory.path()); });
  }
}

TEST(Lookup, OrderAndMissing) {
  const TemporaryDirectory directory;
  expect_error(Exit::missing, "no tokenizer", [&] { load_tokenizer(directory.path()); });
  put(directory / "vocab.json", "{}");
  expect_error(Exit::missing, "no tokenizer", [&] { load_tokenizer(directory.path()); });
  put(directory / "tokenizer.model", "nonsense");
  put(directory / "tokenizer.json", byte_level_json({}).dump());
  EXPECT_EQ(load_tokenizer(directory.path())->vocab_size(), 256);
  for (const char* bad : {"[]", R"({"legacy": 1})", R"({"added_tokens_decoder": {"x": {"content": "y"}}})",
                          R"({"added_tokens_decoder": {"99999999": {"content": "y"}}})", R"({"bos_token": 5})"}) {
    put(directory / "tokenizer_config.json", bad);
    expect_error(Exit::data, "tokenizer_config.json", [&] { load_tokenizer(directory.path()); });
  }
}

}  // namespace
}  // namespace ptq

// Tokenizers of real models against golden/tokenizers (tokenizers 0.22.2, sentencepiece 0.2.3, tiktoken 0.14.0): ids of
// whole corpora by hash, ids and decodings of adversarial strings, and the character classes. Everything is exact.
// Tokenizer files come from $PTQ_MODELS; $PTQ_SMOLLM2 names a directory with SmolLM2's tokenizer.json.
#include "data/calibration_sets.h"
#include "data/corpora.h"
#include "golden_path.h"
#include "host/files.h"
#include "model/regex.h"
#include "model/tokenizer.h"
#include "model/unicode.h"
#include "model/utf8.h"
#include "temporary.h"

#include <gtest/gtest.h>
#include <openssl/evp.h>

#include <array>
#include <cstdio>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

namespace ptq {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<std::int32_t>;
using Json = nlohmann::json;

// Lines of a gzip file.
std::vector<Json> read_gzip_jsonl(const fs::path& path) {
  std::FILE* pipe = ::popen(("gzip -dc '" + path.string() + "'").c_str(), "r");
  if (pipe == nullptr) throw std::runtime_error("cannot run gzip");
  std::string text;
  std::array<char, 65536> buffer{};
  for (std::size_t n; (n = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) text.append(buffer.data(), n);
  if (::pclose(pipe) != 0) throw std::runtime_error("gzip failed on " + path.string());
  std::vector<Json> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(Json::parse(line));
  return lines;
}

std::string from_base64(const std::string& text) {
  std::string out(text.size(), '\0');
  const int n = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  if (n < 0) throw std::runtime_error("bad base64 in a golden file");
  const std::size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  out.resize(static_cast<std::size_t>(n) - padding);
  return out;
}

std::string hash_of(const Ids& ids) {  // of little-endian int32
  return sha256_hex({reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(std::int32_t)});
}

struct Variant {
  std::string name;                      // as in the golden files
  std::string files;                     // below $PTQ_MODELS, or "" for $PTQ_SMOLLM2
  std::vector<std::string> copied = {};  // only these files, in a directory of their own
  std::string config = "";               // its tokenizer_config.json
  std::string base = "";                 // variant that a golden line without this one stands for
  std::int32_t prefix = -1;              // what the tokenizer puts in front, -1: nothing
};

const std::vector<Variant>& variants() {
  const std::vector<std::string> model = {"tokenizer.model"};
  static const std::vector<Variant> all = {
      {"llama2.spm", "tokenizers/llama2", {}, "", "", 1},
      {"llama2.hf_legacy", "tokenizers/llama2", model, R"({"legacy": true})", "llama2.spm", 1},
      {"llama2.hf_nonlegacy", "tokenizers/llama2", model, R"({"legacy": false})", "llama2.hf_legacy", 1},
      {"mistral-7b-v0.1.spm", "tokenizers/mistral-7b-v0.1", model, "", "", 1},
      {"mistral-7b-v0.1.hf", "tokenizers/mistral-7b-v0.1", {}, "", "mistral-7b-v0.1.spm", 1},
      {"llama3.hf", "tokenizers/llama3", {}, "", "", 128000},
      {"llama3.plain", "tokenizers/llama3", model, "", "llama3.hf", 128000},
      {"opt.hf", "tokenizers/opt", {}, "", "", 2},
      {"command-r.hf", "tokenizers/command-r", {}, "", "", 5},
      {"smollm2.hf", "", {}, "", "", -1},
      {"stories260K.spm", "stories260K", {}, "", "", 1},
  };
  return all;
}

const Variant& variant(const std::string& name) {
  for (const Variant& v : variants()) {
    if (v.name == name) return v;
  }
  throw std::runtime_error("no variant " + name);
}

// The value of the variant or of the variant that it stands for by default.
const Json* find(const Json& by_variant, const Variant& v) {
  if (const auto found = by_variant.find(v.name); found != by_variant.end()) return &*found;
  return v.base.empty() ? nullptr : find(by_variant, variant(v.base));
}

// Whether golden lines of tokenizer `name` speak about `v`: its own or, through its base, another's.
bool stands_for(const std::string& name, const Variant& v) {
  return name == v.name || (!v.base.empty() && stands_for(name, variant(v.base)));
}

class TokenizerGolden : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    golden_ = environment_path("PTQ_GOLDEN") / "tokenizers";
    if (!fs::exists(golden_ / "README.md")) GTEST_SKIP() << "PTQ_GOLDEN is not set or has no tokenizers";
    const Variant& v = variant(GetParam());
    const char* root = v.files.empty() ? "PTQ_SMOLLM2" : "PTQ_MODELS";
    fs::path directory = environment_path(root) / v.files;
    if (std::getenv(root) == nullptr || !fs::exists(directory))
      GTEST_SKIP() << root << " is not set or lacks " << v.files;
    if (!v.copied.empty()) {
      for (const std::string& file : v.copied) fs::copy(directory / file, own_ / file);
      if (!v.config.empty()) put(own_ / "tokenizer_config.json", v.config);
      directory = own_.path();
    }
    tokenizer_ = load_tokenizer(directory);
  }

  const Variant& current() const { return variant(GetParam()); }

  TemporaryDirectory own_;
  fs::path golden_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_P(TokenizerGolden, PutsTheRightTokenInFront) {
  const Ids expected = current().prefix < 0 ? Ids{} : Ids{current().prefix};
  EXPECT_EQ(tokenizer_->prefix(), expected);
  EXPECT_FALSE(tokenizer_->description().empty());
}

TEST_P(TokenizerGolden, AdversarialStrings) {
  int strings = 0;
  for (const Json& line : read_gzip_jsonl(golden_ / "adversarial.jsonl.gz")) {
    const std::string text = from_base64(line.at("text").get<std::string>());
    const Ids expected = find(line.at("ids"), current())->get<Ids>();
    ASSERT_EQ(tokenizer_->encode(text), expected) << line.at("i") << " (" << line.at("kind") << ")";
    const auto decoded = line.at("decoded").find(GetParam());
    ASSERT_EQ(tokenizer_->decode(expected),
              decoded == line.at("decoded").end() ? text : from_base64(decoded->get<std::string>()))
        << line.at("i") << " (" << line.at("kind") << ")";
    ++strings;
  }
  EXPECT_EQ(strings, 1957);
}

TEST_P(TokenizerGolden, RandomIdsDecode) {
  int sequences = 0;
  for (const Json& line : read_gzip_jsonl(golden_ / "decode.jsonl.gz")) {
    if (line.at("tokenizer") != GetParam()) continue;
    ASSERT_EQ(tokenizer_->decode(line.at("ids").get<Ids>()), from_base64(line.at("text").get<std::string>())) << line;
    ++sequences;
  }
  if (sequences == 0) GTEST_SKIP() << "no decodings for this variant";
  EXPECT_EQ(sequences, 100);
}

TEST_P(TokenizerGolden, IllFormedUtf8) {
  int strings = 0;
  for (const Json& line : read_gzip_jsonl(golden_ / "invalid_utf8.jsonl.gz")) {
    const std::string bytes = from_base64(line.at("bytes").get<std::string>());
    std::string storage;
    ASSERT_EQ(repair_utf8(bytes, storage), from_base64(line.at("replaced").get<std::string>())) << line.at("n");
    const Json* expected = find(line.at("ids_replaced"), current());
    ASSERT_NE(expected, nullptr);
    ASSERT_EQ(tokenizer_->encode(bytes), expected->get<Ids>()) << line.at("n");
    ++strings;
  }
  EXPECT_GT(strings, 50);
}

TEST_P(TokenizerGolden, SingleSentences) {
  const fs::path data = environment_path("PTQ_DATA") / "flores200";
  if (!fs::exists(data / "dev")) GTEST_SKIP() << "PTQ_DATA is not set or has no flores200";
  int languages = 0;
  for (const Json& line : read_gzip_jsonl(golden_ / "flores_first20.jsonl.gz")) {
    if (!stands_for(line.at("tokenizer").get<std::string>(), current())) continue;
    std::istringstream in(get(data / "dev" / (line.at("lang").get<std::string>() + ".dev")));
    for (const Json& ids : line.at("ids")) {
      std::string sentence;
      std::getline(in, sentence);
      ASSERT_EQ(tokenizer_->encode(sentence), ids.get<Ids>()) << line.at("lang") << ": " << sentence;
    }
    ++languages;
  }
  EXPECT_EQ(languages, 6);
}

// Corpora of texts/*.tsv.
std::string corpus(const std::string& name, const fs::path& data) {
  if (name == "wikitext2/joined") return read_wikitext2(data).text;
  std::string text;
  if (name == "c4_sample") {
    open_corpus("c4", data, "").documents->each([&](std::string_view document, std::size_t) {
      text.append(text.empty() ? "" : "\n\n").append(document);
      return true;
    });
    return text;
  }
  const std::string language = name.substr(std::string("flores/").size());
  text = get(data / "flores200/dev" / (language + ".dev"));
  if (!text.ends_with('\n')) text += '\n';
  text += get(data / "flores200/devtest" / (language + ".devtest"));
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

TEST_P(TokenizerGolden, WholeCorpora) {
  const fs::path data = environment_path("PTQ_DATA");
  if (!fs::exists(data / "flores200")) GTEST_SKIP() << "PTQ_DATA is not set or has no flores200";
  Variant listed = current();
  while (!fs::exists(golden_ / "texts" / (listed.name + ".tsv"))) listed = variant(listed.base);
  const fs::path list = golden_ / "texts" / (listed.name + ".tsv");
  struct Row {
    std::string name, hash;
    std::size_t count = 0;
    Ids ids = {};
  };
  std::vector<Row> rows;
  std::istringstream in(get(list));
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with('#')) continue;
    std::istringstream fields(line);
    Row row;
    fields >> row.name >> row.count >> row.hash;
    rows.push_back(row);
  }
  ASSERT_EQ(rows.size(), 104u);
  // A variant without a list of its own differs from its base only around special strings: every fifth text will do.
  const std::size_t step = listed.name == GetParam() ? 1 : 5;
#pragma omp parallel for schedule(dynamic)  // encode() may be called by several threads
  for (std::size_t i = 0; i < rows.size(); i += step) rows[i].ids = tokenizer_->encode(corpus(rows[i].name, data));
  for (std::size_t i = 0; i < rows.size(); i += step) {
    EXPECT_EQ(rows[i].ids.size(), rows[i].count) << rows[i].name;
    EXPECT_EQ(hash_of(rows[i].ids), rows[i].hash) << rows[i].name;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, TokenizerGolden, ::testing::ValuesIn([] {
                           std::vector<std::string> names;
                           for (const Variant& v : variants()) names.push_back(v.name);
                           return names;
                         }()),
                         [](const auto& tested) {
                           std::string name = tested.param;
                           for (char& c : name) {
                             if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
                           }
                           return name;
                         });

// SentencePiece-style tokenizer.json and tokenizer.model of one model agree on a whole text.
TEST(TokenizerFormats, MistralJsonAndModelAgree) {
  PTQ_NEED(models, "PTQ_MODELS", "tokenizers/mistral-7b-v0.1");
  PTQ_NEED(data, "PTQ_DATA", "c4_sample");
  TemporaryDirectory json, model;
  fs::copy(models / "tokenizer.json", json / "tokenizer.json");
  fs::copy(models / "tokenizer.model", model / "tokenizer.model");
  const auto a = load_tokenizer(json.path()), b = load_tokenizer(model.path());
  const std::string text = get(data / "c4_sample.jsonl").substr(0, 300'000);
  EXPECT_EQ(a->encode(text), b->encode(text));
  EXPECT_EQ(a->vocab_size(), b->vocab_size());
  EXPECT_EQ(a->prefix(), b->prefix());
}

// Which characters are letters, numbers and spaces for regular expressions (seen through PCRE2), and for Digits.
TEST(UnicodeClasses, EqualTheReference) {
  PTQ_NEED(golden, "PTQ_GOLDEN", "tokenizers/unicode_classes.tsv");
  std::map<std::string, std::vector<bool>> expected;
  std::istringstream in(get(golden));
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with('#')) continue;
    std::istringstream fields(line);
    std::string name;
    unsigned first = 0, last = 0;
    fields >> name >> std::hex >> first >> last;
    auto& members = expected.try_emplace(name, 0x110000, false).first->second;
    std::fill(members.begin() + first, members.begin() + last + 1, true);
  }
  ASSERT_EQ(expected.size(), 12u);
  std::map<std::string, Regex> regexes;
  for (const auto& [name, members] : expected) {
    const std::string pattern = name == "L"       ? "\\p{L}"
                                : name == "N"     ? "\\p{N}"
                                : name == "space" ? "\\s"
                                                  : "(?i:" + name.substr(name.size() - 1) + ")";
    if (name != "digits") regexes.emplace(name, Regex(pattern, name));
  }
  std::string everything;
  std::vector<char32_t> at;
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    const std::size_t begin = everything.size();
    append_utf8(everything, c);
    at.resize(begin + 1, 0);
    at[begin] = c;
    ASSERT_EQ(is_numeric(c), expected.at("digits")[c]) << std::hex << static_cast<unsigned>(c);
    ASSERT_EQ(is_space(c), expected.at("space")[c]) << std::hex << static_cast<unsigned>(c);
  }
  for (const auto& [name, regex] : regexes) {
    std::vector<Span> spans;
    Regex::Matcher(regex).find_all(everything, spans);
    std::vector<bool> found(0x110000, false);
    for (const Span& s : spans) found[at[s.begin]] = true;
    EXPECT_EQ(found, expected.at(name)) << name;
  }
}

}  // namespace
}  // namespace ptq

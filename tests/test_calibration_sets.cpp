// The named calibration sets, on files of the publishers' shapes and on the published ones in $PTQ_DATA, and their
// replay. Ids of published sets were made with transformers 4.57.6 (slow Llama tokenizer), tokenizers, CPython's random
// and NumPy: join, encode, cut into windows, sha256 of the little-endian int32 ids.
#include "byte_tokenizer.h"
#include "data/flores.h"
#include "data/replay.h"
#include "golden_path.h"
#include "host/error.h"
#include "host/files.h"
#include "temporary.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include <algorithm>

namespace ptq {
namespace {

using Ids = std::vector<std::int32_t>;
using Names = std::vector<std::string>;

CalibrationSet build(const TemporaryDirectory& dir, const std::string& set, std::int64_t samples, std::int64_t seqlen,
                     const std::string& format = "") {
  const ByteTokenizer bytes;
  return build_calibration({.set = set, .samples = samples, .seqlen = seqlen, .format = format, .data = dir.path()},
                           &bytes);
}

std::string text_of(const CalibrationSet& set) {
  std::string text;
  for (const Ids& window : set.windows) text += ByteTokenizer().decode(window);
  return text;
}

TEST(RedPajama, DrawsFromAllFilesByDefault) {
  const TemporaryDirectory dir;
  expect_error(Exit::missing, "prepare.py", [&] { build(dir, "redpajama", 1, 2); });
  dir.write("redpajama/arxiv_sample.jsonl", "{\"text\":\"aaaa\",\"meta\":{\"language\":\"en\"}}\n");
  dir.write("redpajama/book_sample.jsonl", "{\"text\":\"bbbb\",\"meta\":{}}\n{\"text\":\"cccc\",\"meta\":{}}\n");
  dir.write("redpajama/README.md", "not read");
  const CalibrationSet set = build(dir, "redpajama", 20, 2);
  EXPECT_EQ(set.manifest.documents, 3);
  ASSERT_EQ(set.manifest.sources.size(), 2u);
  EXPECT_EQ(set.manifest.sources[1].name, "redpajama/book_sample.jsonl");
  EXPECT_NE(set.manifest.notes.at(0).find("2 files of the published sample's 11"), std::string::npos);
  EXPECT_EQ(manifest_json(set.manifest)["seed"], 0);
}

TEST(Questions, Formats) {
  const TemporaryDirectory dir;
  dir.write("piqa/dev.jsonl",
            "{\"goal\":\"G\",\"sol1\":\"s\",\"sol2\":\"t\"}\n{\"goal\":\"H\",\"sol1\":\"u\",\"sol2\":\"v\"}\n");
  dir.write("piqa/dev-labels.lst", "1\n0\n");
  EXPECT_EQ(text_of(build(dir, "piqa", 99, 1)), "Question: G\nAnswer: t\n\nQuestion: H\nAnswer: u");
  EXPECT_EQ(text_of(build(dir, "piqa", 99, 1, "answers")), "t\n\nu");
  const CalibrationSet all = build(dir, "piqa", 999, 1, "all-choices");
  EXPECT_EQ(text_of(all),
            "Question: G\nAnswer: s\n\nQuestion: G\nAnswer: t\n\nQuestion: H\nAnswer: u\n\nQuestion: H\nAnswer: v");
  EXPECT_EQ(all.manifest.format, "all-choices");
  ASSERT_EQ(all.manifest.sources.size(), 2u);
  EXPECT_EQ(all.manifest.sources[1].name, "piqa/dev-labels.lst");
  expect_error(Exit::usage, "none of qa, answers, all-choices", [&] { build(dir, "piqa", 1, 1, "choices"); });
  expect_error(Exit::usage, "sets of questions", [&] { build(dir, "nonsense", 1, 1, "qa"); });
  expect_error(Exit::missing, "arc_challenge/test.jsonl", [&] { build(dir, "arc", 1, 1); });
}

TEST(Miniature, TextsAndQuestions) {
  const TemporaryDirectory dir;
  expect_error(Exit::missing, "data directory of ptq's sources", [&] { build(dir, "miniature:en", 1, 1); });
  dir.write("miniature/en.txt", "some words");
  dir.write("miniature/arc.jsonl", R"({"context":"Q","choices":["a","b"],"gold":1})");
  EXPECT_EQ(text_of(build(dir, "miniature:en", 99, 1)), "some words");
  EXPECT_EQ(text_of(build(dir, "miniature:arc", 99, 1)), "Q b");
  expect_error(Exit::missing, "there: arc, en", [&] { build(dir, "miniature:ru", 1, 1); });
  expect_error(Exit::missing, "needs a name", [&] { build(dir, "miniature", 1, 1); });
}

TEST(Flores, Layouts) {
  const TemporaryDirectory dir;
  dir.write("flores200/dev/eng_Latn.dev", "one\ntwo\n\n");
  dir.write("flores200/devtest/eng_Latn.devtest", "three");
  dir.write("flores200/dev/zho_Hans.dev", "200\n");
  dir.write("flores200/dev/README", "x");
  dir.write("flores_plus/dev/dev.zho_Hans", "zip\n");
  dir.write("flores_plus/devtest/zho_Hans.jsonl", "{\"id\":0,\"text\":\"hub\",\"iso_639_3\":\"cmn\"}\n");
  dir.write("flores_plus/dev/deu_Latn.parquet", "PAR1");
  EXPECT_EQ(flores_languages(dir.path()), (Names{"deu_Latn", "eng_Latn", "zho_Hans"}));

  const CalibrationSet english = build(dir, "flores:eng_Latn", 99, 4);
  EXPECT_EQ(text_of(english), "one\ntwo\nthre");  // blank lines are no sentences, the rest is no window
  EXPECT_EQ(english.manifest.documents, 3);
  EXPECT_EQ(english.manifest.sentences, 3);
  EXPECT_EQ(build(dir, "flores:eng_Latn", 2, 4).manifest.sentences, 2);
  ASSERT_EQ(english.manifest.sources.size(), 2u);
  EXPECT_EQ(english.manifest.sources[1].name, "flores200/devtest/eng_Latn.devtest");
  EXPECT_TRUE(english.manifest.notes.empty());

  // FLORES+ goes before FLORES-200, and its JSON Lines before its zip.
  const CalibrationSet chinese = build(dir, "flores:zho_Hans", 9, 3);
  EXPECT_EQ(text_of(chinese), "hub");
  EXPECT_NE(chinese.manifest.notes.at(0).find("only flores_plus/devtest/zho_Hans.jsonl"), std::string::npos);

  expect_error(Exit::data, "pandas", [&] { build(dir, "flores:deu_Latn", 1, 1); });
  expect_error(Exit::missing, "'eng_Lat' among the 3 of FLORES", [&] { build(dir, "flores:eng_Lat", 1, 1); });
  expect_error(Exit::missing, "near names: eng_Latn", [&] { build(dir, "flores:eng_Lat", 1, 1); });
  expect_error(Exit::missing, "no language '../dev/eng_Latn'", [&] { build(dir, "flores:../dev/eng_Latn", 1, 1); });
  expect_error(Exit::missing, "needs a name after a colon", [&] { build(dir, "flores", 1, 1); });
  const TemporaryDirectory none;
  expect_error(Exit::missing, "prepare.py", [&] { build(none, "flores:eng_Latn", 1, 1); });
}

TEST(Sets, UnknownOnesListTheKnown) {
  const TemporaryDirectory dir;
  expect_error(Exit::missing, "redpajama, c4, wikitext2, nonsense, arc, piqa, flores:LANG, miniature:NAME",
               [&] { build(dir, "no-such-set", 1, 1); });
  EXPECT_EQ(named_sets().size(), 8u);
  for (const NamedSet& set : named_sets()) EXPECT_EQ(set.found(dir.path()).empty(), set.name != "nonsense") << set.name;
  for (const NamedSet& set : named_sets()) EXPECT_EQ(set.found({}).empty(), set.name != "nonsense") << set.name;
}

TEST(Sets, WikitextSaysWhenItIsTheTestSplit) {
  const TemporaryDirectory dir;
  dir.write("wikitext2/wiki.test.raw", " \n = A = \n \n b\n");
  const CalibrationSet test = build(dir, "wikitext2", 9, 5);
  EXPECT_EQ(test.manifest.notes.size(), 1u);
  EXPECT_EQ(text_of(test), "\n\n = A = \n\n\n\n\n ");  // 15 of its 17 bytes
  dir.write("wikitext2/wiki.train.raw", " \n = T = \n");
  const CalibrationSet train = build(dir, "wikitext2", 9, 5);
  EXPECT_TRUE(train.manifest.notes.empty());
  EXPECT_EQ(train.manifest.sources[0].name, "wikitext2/wiki.train.raw");
}

class Replay : public testing::Test {
 protected:
  Replay() { dir.write("flores200/dev/eng_Latn.dev", "a sentence\nand another\n"); }

  nlohmann::json made(const CalibrationRequest& request) const {
    return manifest_json(build_calibration(request, &bytes).manifest);
  }
  void replay(const nlohmann::json& manifest, const Tokenizer& tokenizer) const {
    const CalibrationRequest again = replay_request(manifest, dir.path(), "m.json");
    verify_replay(manifest, build_calibration(again, &tokenizer).manifest, "m.json");
  }

  TemporaryDirectory dir;
  ByteTokenizer bytes;
};

TEST_F(Replay, SameIdsOrWhatChanged) {
  const auto manifest = made({.set = "nonsense:1+flores:eng_Latn:1",
                              .samples = 4,
                              .seqlen = 8,
                              .seed = ~std::uint64_t{0},
                              .sampling = Sampling::gptq,
                              .data = dir.path()});
  EXPECT_NO_THROW(replay(manifest, bytes));
  EXPECT_NO_THROW(replay(nlohmann::json::parse(manifest.dump()), bytes));
  expect_error(Exit::data, "tokenizer was \"bytes\"", [&] { replay(manifest, ByteTokenizer(true)); });
  auto other = manifest;
  other["parts"][1]["packing"] = "another";
  other["ids_sha256"] = "0";
  expect_error(Exit::data, "rule: \"packing\" was \"another\"", [&] { replay(other, bytes); });
  other = manifest;
  other["ids_sha256"] = "0";
  expect_error(Exit::data, "another version of ptq", [&] { replay(other, bytes); });
  dir.write("flores200/dev/eng_Latn.dev", "A SENTENCE\nAND ANOTHER\n");
  expect_error(Exit::data, "source \"flores200/dev/eng_Latn.dev\"", [&] { replay(manifest, bytes); });
}

TEST_F(Replay, ManifestsAreHostile) {
  const auto manifest = made({.set = "flores:eng_Latn", .samples = 1, .seqlen = 8, .data = dir.path()});
  const std::string file = dir.write("ptq.json", nlohmann::json{{"calibration", manifest}}.dump());
  EXPECT_EQ(read_manifest(file), manifest);  // of a quantized checkpoint
  for (const char* text : {"{}", "[]", "7", R"({"request":3})", R"({"calibration":null})"})
    expect_error(Exit::data, "not a calibration manifest", [&] { read_manifest(dir.write("bad.json", text)); });
  expect_error(Exit::missing, "no.json", [&] { read_manifest(dir.path() / "no.json"); });
  const auto broken = [&](const char* key, const nlohmann::json& value) {
    return [&, key, value] {
      auto changed = manifest;
      changed["request"][key] = value;
      replay(changed, bytes);
    };
  };
  expect_error(Exit::data, "\"set\"", broken("set", 7));
  expect_error(Exit::data, "\"seqlen\"", broken("seqlen", -1));
  expect_error(Exit::data, "\"samples\"", broken("samples", std::uint64_t{1} << 40));
  expect_error(Exit::data, "\"samples\"", broken("samples", 0));
  expect_error(Exit::data, "\"seed\"", broken("seed", "x"));
  expect_error(Exit::data, "sampling", broken("sampling", "none"));
  auto changed = manifest;
  changed["ids_sha256"] = 7;
  expect_error(Exit::data, "ids_sha256", [&] { replay(changed, bytes); });
  for (const char* key : {"sources", "tokenizer", "parts", "bos"}) {  // whatever is in them
    changed = manifest;
    changed["ids_sha256"] = "0";
    changed[key] = nlohmann::json::array({1, "x", nullptr});
    expect_error(Exit::data, "what changed", [&] { replay(changed, bytes); });
  }
}

struct Published {
  const char* set;
  Sampling sampling;
  std::int64_t samples, seqlen, windows, documents, sentences, unique;
  const char* ids;
};

TEST(PublishedSets, EqualPythonWithLlama2Tokenizer) {
  PTQ_NEED(data, "PTQ_DATA", "flores200");
  PTQ_NEED(tokenizers, "PTQ_MODELS", "tokenizers/llama2");
  const auto tokenizer = load_tokenizer(tokenizers);
  const Published sets[] = {
      {"flores:eng_Latn", Sampling::automatic, 32, 2048, 30, 2009, 1952, 8172,
       "6f9b79041e2559a1145ce74ce804bb5b99841774c47204cf7c964f918d9a178e"},
      {"flores:hin_Deva", Sampling::automatic, 32, 2048, 32, 491, 491, 173,
       "9dc7cc39c5d56f7033f467e273125752e6322129f1494c33f5e2fc4971e36faa"},
      {"arc", Sampling::automatic, 128, 2048, 24, 1172, 0, 4390,
       "3e3e6b23637037a295d2c34578f07b18ce2ff8496e2a5939283e729971a5b8bc"},
      {"piqa", Sampling::automatic, 128, 2048, 39, 1838, 0, 4912,
       "51aec5a84a77ae4c4e679b27454c8c48c491f4c73aa41f0822a185bbf04f514b"},
      {"c4", Sampling::gptq, 16, 2048, 16, 12, 0, 4809,
       "015d87f859c4ce6382468c6a9f39921391548e19258c0145ccd1c669eeabd154"},
      {"c4", Sampling::awq, 128, 512, 59, 128, 0, 5902,
       "a8dc6c19357308cb8ded865df30b12538dfce6c6aafa3288f55789727947368c"},
  };
  for (const Published& p : sets) {
    const CalibrationSet set = build_calibration(
        {.set = p.set, .samples = p.samples, .seqlen = p.seqlen, .sampling = p.sampling, .data = data.parent_path()},
        tokenizer.get());
    EXPECT_EQ(set.manifest.ids_sha256, p.ids) << p.set;
    EXPECT_EQ(set.manifest.windows, p.windows) << p.set;
    EXPECT_EQ(set.manifest.documents, p.documents) << p.set;
    EXPECT_EQ(set.manifest.sentences, p.sentences) << p.set;
    EXPECT_EQ(set.manifest.unique_tokens, p.unique) << p.set;
  }
}

TEST(PublishedSets, EveryFloresLanguage) {
  PTQ_NEED(data, "PTQ_DATA", "flores200");
  const ByteTokenizer bytes;
  const Names languages = flores_languages(data.parent_path());
  EXPECT_EQ(languages.size(), 204u);
  for (std::size_t i = 0; i < languages.size(); i += 17) {  // all of them take a minute
    const CalibrationSet set = build_calibration(
        {.set = "flores:" + languages[i], .samples = 1 << 20, .seqlen = 1, .data = data.parent_path()}, &bytes);
    EXPECT_EQ(set.manifest.documents, 2009) << languages[i];
    EXPECT_EQ(set.manifest.sentences, 2009) << languages[i];
  }
}

TEST(PublishedSets, FewerWindowsThanAskedForAndNone) {
  PTQ_NEED(data, "PTQ_DATA", "flores200");
  PTQ_NEED(model, "PTQ_SMOLLM2", "tokenizer.json");
  const auto tokenizer = load_tokenizer(model.parent_path());
  CalibrationRequest request{.set = "flores:eng_Latn", .data = data.parent_path()};
  const CalibrationSet set = build_calibration(request, tokenizer.get());
  EXPECT_EQ(set.manifest.samples, 32);  // the set's own number
  EXPECT_EQ(set.manifest.windows, 27);
  EXPECT_EQ(set.manifest.ids_sha256, "b94afd89713e0133a303023e10ab913e07abdbdbac1a0409f0c3fd8175f33e9e");
  request.seqlen = 60000;
  expect_error(Exit::data, "has 56177 tokens, fewer than one window of 60000; use a longer text or a shorter --seqlen",
               [&] { build_calibration(request, tokenizer.get()); });
}

}  // namespace
}  // namespace ptq

// data/: CPython's random numbers, corpora, calibration sets, tasks and the download script. Expected values come from
// CPython 3.11 (random, str) and from the publishers' files in $PTQ_DATA.
#include "data/calibration.h"
#include "data/ids.h"
#include "data/python_random.h"
#include "data/python_text.h"
#include "data/tasks.h"
#include "golden_path.h"
#include "host/error.h"
#include "host/files.h"
#include "temporary.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

namespace ptq {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<std::int32_t>;

// One id per byte, after an optional BOS of 999.
class ByteTokenizer final : public Tokenizer {
 public:
  explicit ByteTokenizer(bool bos = false) : bos_(bos) {}
  Ids encode(std::string_view text) const override {
    Ids ids;
    for (char c : text) ids.push_back(static_cast<unsigned char>(c));
    return ids;
  }
  std::string decode(std::span<const std::int32_t> ids) const override {
    std::string text;
    for (std::int32_t id : ids) text += static_cast<char>(id);
    return text;
  }
  std::int64_t vocab_size() const override { return 1000; }
  Ids prefix() const override { return bos_ ? Ids{999} : Ids{}; }
  std::int32_t bos() const override { return 999; }
  std::int32_t eos() const override { return -1; }
  std::string description() const override { return "bytes"; }

 private:
  bool bos_;
};

TEST(PythonRandom, RandintEqualsCPython) {
  struct Case {
    std::uint64_t seed;
    std::array<std::int64_t, 4> million;
    std::int64_t small, wide, word;
  };
  const Case cases[] = {
      {0, {885440, 403958, 794772, 933488}, 1, 567109562164, 2046968324},
      {1, {140891, 596853, 888598, 841235}, -4, 258793550908, 3268308804},
      {42, {670487, 116739, 26225, 777572}, -1, 490678074256, 3163119785},
      {(std::uint64_t{1} << 32) + 5, {164912, 509079, 296208, 933154}, 4, 33652465765, 2696275445},
      {~std::uint64_t{0}, {22885, 260863, 354518, 648807}, -2, 815617776582, 3165929296},
  };
  for (const Case& c : cases) {
    PythonRandom random(c.seed);
    for (std::int64_t expected : c.million) EXPECT_EQ(random.randint(0, 999999), expected) << "seed " << c.seed;
    EXPECT_EQ(random.randint(-5, 5), c.small);
    EXPECT_EQ(random.randint(0, std::int64_t{1} << 40), c.wide);  // more than 32 bits
    EXPECT_EQ(random.randint(7, 7), 7);                           // still draws
    EXPECT_EQ(random.randint(0, 4294967295), c.word);
  }
}

TEST(PythonRandom, StateIsRegenerated) {
  PythonRandom random(3);
  for (int i = 0; i < 700; ++i) random.randint(0, 9);
  for (int expected : {3, 6, 3, 7, 5, 1, 0, 6}) EXPECT_EQ(random.randint(0, 9), expected);
}

TEST(PythonText, StripsWhatPythonCallsSpace) {
  EXPECT_EQ(python_strip(" \t\n\v\f\r\x1c\x1f\xc2\x85\xc2\xa0\xe1\x9a\x80 a b\xe2\x80\xa8\xe3\x80\x80\xe2\x80\xaf"),
            "a b");
  EXPECT_EQ(python_rstrip("  x \xe2\x81\x9f"), "  x");
  EXPECT_EQ(python_rstrip("x\xe2\x80\x8b"), "x\xe2\x80\x8b");  // ZERO WIDTH SPACE is not space
  EXPECT_EQ(python_strip("\xc2\xa0"), "");
  EXPECT_EQ(code_points("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x99\x82"), 4);
}

TEST(Nonsense, EqualsPythonOneLiner) {
  EXPECT_EQ(nonsense_text(0, 40), "]_#; ~^>}[\x0c. )=)';\n*>'%@}\r'[`?.\r}{\t;$\r!&");
  EXPECT_EQ(sha256_hex(nonsense_text(0, 10000)), "2c21933f3e786ec70a6e360a4f906de285934a13a8e0706befbdd75176070a21");
  EXPECT_EQ(sha256_hex(nonsense_text(7, 10000)), "87867974d8e3d0fd76ffe7d0904852c40c3a1411ef608d33c3aaf7be34d998e1");
}

TEST(Nonsense, WindowsAreReproducible) {
  CalibrationRequest request{.set = "nonsense", .samples = 3, .seqlen = 50, .seed = 7};
  const ByteTokenizer bytes(true);
  const CalibrationSet set = build_calibration(request, &bytes);
  ASSERT_EQ(set.windows.size(), 3u);
  EXPECT_EQ(set.windows[0][0], 999);  // once, at the start
  EXPECT_EQ(bytes.decode(std::span(set.windows[1])), set.text.substr(49, 50));
  EXPECT_EQ(set.manifest.text_sha256, sha256_hex(set.text));
  EXPECT_LE(set.manifest.unique_tokens, 39);
  EXPECT_EQ(build_calibration(request, &bytes).manifest.ids_sha256, set.manifest.ids_sha256);
  request.seed = 8;
  EXPECT_NE(build_calibration(request, &bytes).manifest.ids_sha256, set.manifest.ids_sha256);
  EXPECT_EQ(manifest_json(set.manifest)["seed"], 7);
}

TEST(Calibration, JoinsDocumentsAndCutsWindows) {
  const TemporaryDirectory dir;
  const std::string file = dir.write(
      "docs.jsonl", "{\"text\":\"abc\"}\n\n{\"text\":\"\"}\n{\"text\":\"de\",\"url\":\"u\"}\n{\"text\":\"f\"}");
  const ByteTokenizer bytes(true);
  const CalibrationSet set = build_calibration({.set = file, .samples = 2, .seqlen = 4}, &bytes);
  // 999 a b c | \n \n d e | the third document is not needed
  ASSERT_EQ(set.windows.size(), 2u);
  EXPECT_EQ(set.windows[0], (Ids{999, 'a', 'b', 'c'}));
  EXPECT_EQ(set.windows[1], (Ids{'\n', '\n', 'd', 'e'}));
  EXPECT_EQ(set.manifest.documents, 2);
  EXPECT_EQ(set.manifest.unique_tokens, 7);
  const auto json = manifest_json(set.manifest);
  EXPECT_EQ(json["sources"][0]["file"], "docs.jsonl");
  EXPECT_EQ(json["bos"]["ids"], Ids{999});
  EXPECT_FALSE(json.contains("seed"));  // it had no influence

  // A finite corpus gives the windows that it has.
  EXPECT_EQ(build_calibration({.set = file, .samples = 99, .seqlen = 4}, &bytes).windows.size(), 2u);
  expect_error(Exit::data, "has 11 tokens, fewer than one window of 12",
               [&] { build_calibration({.set = file, .samples = 1, .seqlen = 12}, &bytes); });
}

TEST(Calibration, TextFileIsOneDocument) {
  const TemporaryDirectory dir;
  const std::string file = dir.write("a.txt", "0123\r\n6789");
  const ByteTokenizer bytes;
  const CalibrationSet set = build_calibration({.set = file, .samples = 8, .seqlen = 5}, &bytes);
  ASSERT_EQ(set.windows.size(), 2u);
  EXPECT_EQ(set.windows[1], (Ids{'\n', '6', '7', '8', '9'}));  // bytes as they are
  EXPECT_EQ(set.manifest.sources[0].sha256, sha256_hex("0123\r\n6789"));
}

TEST(Calibration, ReferenceSamplingEqualsPython) {
  const TemporaryDirectory dir;
  const std::string file = dir.write("docs.jsonl",
                                     "{\"text\":\"aaaaa\"}\n{\"text\":\"bcdefghijk\"}\n"
                                     "{\"text\":\"0123456789abcdef\"}\n{\"text\":\"zz\"}\n");
  const ByteTokenizer bytes;
  CalibrationRequest request{.set = file, .samples = 5, .seqlen = 6, .seed = 11, .sampling = Sampling::gptq};
  const CalibrationSet set = build_calibration(request, &bytes);
  std::vector<std::string> windows;
  for (const Ids& w : set.windows) windows.push_back(bytes.decode(w));
  EXPECT_EQ(windows, (std::vector<std::string>{"cdefgh", "bcdefg", "234567", "bcdefg", "cdefgh"}));
  EXPECT_EQ(set.manifest.documents, 2);
  EXPECT_EQ(manifest_json(set.manifest)["seed"], 11);
  request.seqlen = 16;  // the longest document has 16 tokens: no random window
  expect_error(Exit::data, "longest: 16", [&] { build_calibration(request, &bytes); });
}

TEST(Calibration, IdsFile) {
  const TemporaryDirectory dir;
  const std::string file = dir.write("w.ids", "1 2 3\n\n4,5, 6\t7\r\n");
  const CalibrationSet set = build_calibration({.set = "ids:" + file}, nullptr);
  EXPECT_EQ(set.windows, (std::vector<Ids>{{1, 2, 3}, {4, 5, 6, 7}}));
  EXPECT_EQ(set.manifest.tokens, 7);
  EXPECT_EQ(set.manifest.ids_sha256, ids_sha256(Ids{1, 2, 3, 4, 5, 6, 7}));
  EXPECT_FALSE(needs_tokenizer("ids:x"));
  EXPECT_TRUE(needs_tokenizer("c4"));
  for (const char* bad : {"1 2 x", "-1", "2147483648", "1 2.5"}) {
    const std::string broken = dir.write("bad.ids", std::string("1\n") + bad);
    expect_error(Exit::data, "line 2 column", [&] { read_id_lines(broken); });
  }
  expect_error(Exit::data, "no token ids", [&] { read_id_lines(dir.write("empty.ids", "\n \n")); });
}

TEST(Calibration, BadInputIsOneLine) {
  const TemporaryDirectory dir;
  const ByteTokenizer bytes;
  const auto build = [&](const std::string& set, std::int64_t samples = 1, std::int64_t seqlen = 4) {
    return [&, set, samples, seqlen] {
      build_calibration({.set = set, .samples = samples, .seqlen = seqlen, .data = dir.path()}, &bytes);
    };
  };
  expect_error(Exit::missing, "neither a calibration set", build("no-such-set"));
  expect_error(Exit::missing, "prepare.py", build("c4"));
  expect_error(Exit::missing, "prepare.py", build("wikitext2"));
  expect_error(Exit::missing, "PTQ_DATA", [&] { build_calibration({.set = "c4"}, &bytes); });
  expect_error(Exit::data, "empty", build(dir.write("empty.txt", "")));
  expect_error(Exit::data, "0 tokens", build(dir.write("empty.jsonl", "\n")));
  expect_error(Exit::data, "line 2", build(dir.write("a.jsonl", "{\"text\":\"a\"}\n{\"text\":\"b\n")));
  expect_error(Exit::data, "line 1: \"text\" must be a string", build(dir.write("b.jsonl", "{\"text\":7}\n")));
  expect_error(Exit::data, "line 1: expected a JSON object", build(dir.write("c.jsonl", "[1]\n")));
  expect_error(Exit::usage, "--samples", build("nonsense", 0));
  expect_error(Exit::usage, "--seqlen", build("nonsense", 1, -3));
  expect_error(Exit::usage, "nonsense", build("nonsense", std::int64_t{1} << 30, std::int64_t{1} << 30));
}

TEST(Corpora, WikitextRowsAreJoined) {
  const TemporaryDirectory dir;
  dir.write("wikitext2/wiki.test.raw", " \n = A = \n \n b\n");
  EXPECT_EQ(read_wikitext2(dir.path()).text, "\n\n = A = \n\n\n\n\n b\n");
  const ByteTokenizer bytes;
  const CalibrationSet set =
      build_calibration({.set = "wikitext2", .samples = 9, .seqlen = 5, .data = dir.path()}, &bytes);
  ASSERT_EQ(set.manifest.notes.size(), 1u);  // calibrating on test data is said aloud
  dir.write("wikitext2/wiki.train.raw", " \n = T = \n");
  const CalibrationSet train =
      build_calibration({.set = "wikitext2", .samples = 9, .seqlen = 5, .data = dir.path()}, &bytes);
  EXPECT_TRUE(train.manifest.notes.empty());
  EXPECT_EQ(train.manifest.sources[0].name, "wikitext2/wiki.train.raw");
}

TEST(Corpora, PublishedWikitext) {
  PTQ_NEED(data, "PTQ_DATA", "");
  const Text text = read_wikitext2(data);
  EXPECT_EQ(text.text.size(), 1296370u);
  EXPECT_EQ(sha256_hex(text.text), "696cca6b65a171b0a358a4be6732cdfdf2dd6164a32e20fd70e3c13fc4dfae83");
  EXPECT_EQ(text.source.sha256, "173c87a53759e0201f33e0ccf978e510c2042d7f2cb78229d9a50d79b9e7dd08");
}

TEST(Tasks, GenericQuestions) {
  const TemporaryDirectory dir;
  const std::string file = dir.write("mini.jsonl",
                                     "{\"context\":\"Q:\",\"choices\":[\"a\",\"b\xc3\xa9 \",\"c\"],\"gold\":2}\n"
                                     "{\"context\":\"R:\",\"choices\":[\"x\",\"y\"],\"gold\":0}\n");
  const Task task = read_task(file, {});
  EXPECT_EQ(task.name, "mini");
  ASSERT_EQ(task.documents.size(), 2u);
  EXPECT_EQ(task.documents[0].continuations, (std::vector<std::string>{" a", " b\xc3\xa9 ", " c"}));
  EXPECT_EQ(task.documents[0].chars, (std::vector<std::int64_t>{1, 3, 1}));
  EXPECT_EQ(task.documents[0].gold, 2);
  EXPECT_EQ(read_task(file, {}, 1).documents.size(), 1u);
  const auto broken = [&](const std::string& line) {
    return [&, line] { read_task(dir.write("broken.jsonl", line), {}); };
  };
  expect_error(Exit::data, "outside the 2 choices", broken(R"({"context":"q","choices":["a","b"],"gold":2})"));
  expect_error(Exit::data, "must be an integer", broken(R"({"context":"q","choices":["a","b"],"gold":"0"})"));
  expect_error(Exit::data, "choice 1 is empty", broken(R"({"context":"q","choices":["a",""],"gold":0})"));
  expect_error(Exit::data, "two choices", broken(R"({"context":"q","choices":["a"],"gold":0})"));
  expect_error(Exit::data, "\"choices\" must be an array", broken(R"({"context":"q","gold":0})"));
  expect_error(Exit::data, "no documents", broken(""));
  expect_error(Exit::missing, "neither a task", [&] { read_task("hellaswag", {}); });
}

TEST(Tasks, PublishersFormats) {
  const TemporaryDirectory dir;
  dir.write(
      "arc_challenge/test.jsonl",
      R"({"id":"a","question":{"stem":"S?","choices":[{"text":"x","label":"1"},{"text":"y","label":"2"}]},"answerKey":"2"})");
  Task task = read_task("arc_challenge", dir.path());
  EXPECT_EQ(task.documents[0].contexts[1], "Question: S?\nAnswer:");
  EXPECT_EQ(task.documents[0].gold, 1);
  dir.write(
      "arc_challenge/test.jsonl",
      R"({"question":{"stem":"S?","choices":[{"text":"x","label":"A"},{"text":"y","label":"B"}]},"answerKey":"C"})");
  expect_error(Exit::data, "answerKey 'C'", [&] { read_task("arc_challenge", dir.path()); });

  dir.write("piqa/dev.jsonl",
            "{\"goal\":\"G\",\"sol1\":\"s\",\"sol2\":\"t \"}\n{\"goal\":\"H\",\"sol1\":\"s\",\"sol2\":\"t\"}\n");
  dir.write("piqa/dev-labels.lst", "1\n0\n");
  task = read_task("piqa", dir.path());
  EXPECT_EQ(task.documents[0].gold, 1);
  EXPECT_EQ(task.documents[1].gold, 0);
  EXPECT_EQ(task.documents[0].continuations[1], " t ");
  EXPECT_EQ(task.documents[0].chars[1], 2);
  dir.write("piqa/dev-labels.lst", "1\n");
  expect_error(Exit::data, "line 2: expected 0 or 1", [&] { read_task("piqa", dir.path()); });
  dir.write("piqa/dev-labels.lst", "1\n0\n1\n");
  expect_error(Exit::data, "more labels", [&] { read_task("piqa", dir.path()); });

  dir.write("winogrande/dev.jsonl",
            R"({"sentence":"The A saw _ because b. \u00a0","option1":"X","option2":"Y","answer":"2"})");
  task = read_task("winogrande", dir.path());
  EXPECT_FALSE(task.normalized);
  EXPECT_EQ(task.documents[0].contexts, (std::vector<std::string>{"The A saw X", "The A saw Y"}));
  EXPECT_EQ(task.documents[0].continuations, (std::vector<std::string>{" because b.", " because b."}));
  EXPECT_EQ(task.documents[0].gold, 1);
  dir.write("winogrande/dev.jsonl", R"({"sentence":"no blank","option1":"X","option2":"Y","answer":"2"})");
  expect_error(Exit::data, "no blank", [&] { read_task("winogrande", dir.path()); });
}

TEST(Tasks, PublishedSizes) {
  PTQ_NEED(data, "PTQ_DATA", "");
  EXPECT_EQ(read_task("arc_challenge", data).documents.size(), 1172u);
  EXPECT_EQ(read_task("piqa", data).documents.size(), 1838u);
  EXPECT_EQ(read_task("winogrande", data).documents.size(), 1267u);
}

TEST(Prepare, VerifiesWhatItDownloads) {
  if (std::system("python3 -c 'import zipfile' 2>/dev/null") != 0) GTEST_SKIP() << "no python3";
  const TemporaryDirectory dir;
  dir.write("site/a.txt", "hello");
  ASSERT_EQ(
      std::system(fmt::format("cd {} && python3 -m zipfile -c a.zip a.txt", (dir.path() / "site").string()).c_str()),
      0);
  const auto prepare = [&](const std::string& digest) {
    const std::string url = "file://" + (dir.path() / "site/a.zip").string();
    const nlohmann::json sources = {{"toy",
                                     {{"url", url},
                                      {"licence", "none"},
                                      {"files", {{{"name", "toy/b.txt"}, {"member", "a.txt"}, {"sha256", digest}}}}}}};
    const std::string file = dir.write("sources.json", sources.dump());
    return std::system(fmt::format("python3 {}/data/prepare.py {} --sources {} >{} 2>&1", PTQ_SOURCE_DIR,
                                   (dir.path() / "out").string(), file, (dir.path() / "log").string())
                           .c_str());
  };
  EXPECT_NE(prepare(sha256_hex("hullo")), 0);
  EXPECT_NE(read_file(dir.path() / "log", "log").find("expected " + sha256_hex("hullo")), std::string::npos);
  EXPECT_FALSE(fs::exists(dir.path() / "out/toy/b.txt"));
  EXPECT_EQ(prepare(sha256_hex("hello")), 0) << read_file(dir.path() / "log", "log");
  EXPECT_EQ(read_file(dir.path() / "out/toy/b.txt", "file"), "hello");
}

}  // namespace
}  // namespace ptq

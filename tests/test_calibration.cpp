// Windows of token ids from texts: packing, random draws, mixtures and their messages. Expected values come from
// CPython 3.11's random and NumPy 2.4. Named sets: test_calibration_sets.cpp.
#include "byte_tokenizer.h"
#include "data/calibration.h"
#include "data/ids.h"
#include "data/mixture.h"
#include "data/nonsense.h"
#include "host/error.h"
#include "host/files.h"
#include "temporary.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace ptq {
namespace {

using Ids = std::vector<std::int32_t>;

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

// random.seed(0); [random.randint(0, 12 - 5 - 1) for _ in range(4)]
TEST(Calibration, ReferenceSamplingOfOneTextDrawsNoDocument) {
  const TemporaryDirectory dir;
  const std::string file = dir.write("a.txt", "0123456789ab");
  const ByteTokenizer bytes;
  CalibrationRequest request{.set = file, .samples = 4, .seqlen = 5, .sampling = Sampling::gptq};
  std::vector<std::string> windows;
  for (const Ids& w : build_calibration(request, &bytes).windows) windows.push_back(bytes.decode(w));
  EXPECT_EQ(windows, (std::vector<std::string>{"6789a", "34567", "6789a", "34567"}));
  request.seqlen = 12;
  expect_error(Exit::data, "12 tokens", [&] { build_calibration(request, &bytes); });
}

// numpy.random.default_rng(42).permutation(6) is 3 2 5 4 1 0
TEST(Calibration, AwqBlocks) {
  const TemporaryDirectory dir;
  const std::string file = dir.write("docs.jsonl",
                                     "{\"text\":\"aa\"}\n\n{\"text\":\" bbb \"}\n{\"text\":\"cccccccc\"}\n"
                                     "{\"text\":\"dddd\"}\n{\"text\":\"  \"}\n{\"text\":\"eeeee\"}");
  const ByteTokenizer bytes;
  CalibrationRequest request{.set = file, .samples = 3, .seqlen = 5, .sampling = Sampling::awq};
  const CalibrationSet set = build_calibration(request, &bytes);
  std::vector<std::string> windows;
  for (const Ids& w : set.windows) windows.push_back(bytes.decode(w));
  // dddd, then cccccccc is longer than a window, eeeee, a blank one, bbb without its spaces: two windows and a rest
  EXPECT_EQ(windows, (std::vector<std::string>{"dddde", "eeeeb"}));
  EXPECT_EQ(set.manifest.documents, 3);
  EXPECT_NE(set.manifest.packing.find("seed=42"), std::string::npos);
  request.seed = 1;
  EXPECT_NE(build_calibration(request, &bytes).manifest.ids_sha256, set.manifest.ids_sha256);
  // With a BOS each document has its own, so that eeeee is too long and the blank document is one token, as it is in
  // the reference.
  const ByteTokenizer with_bos(true);
  request.seed = 0;
  EXPECT_EQ(build_calibration(request, &with_bos).windows,
            (std::vector<Ids>{{999, 'd', 'd', 'd', 'd'}, {999, 999, 'b', 'b', 'b'}}));
  request.seqlen = 1;
  expect_error(Exit::data, "(5 are longer)", [&] { build_calibration(request, &bytes); });
}

TEST(Calibration, DirectoryInPathOrder) {
  const TemporaryDirectory dir;
  dir.write("set/b.jsonl", "{\"text\":\"bb\"}\n{\"text\":\"cc\"}\n");
  dir.write("set/a/z.txt", "aaa");
  dir.write("set/readme.md", "not read");
  const std::string set = (dir.path() / "set").string();
  const ByteTokenizer bytes;
  const CalibrationSet all = build_calibration({.set = set, .samples = 9, .seqlen = 11}, &bytes);
  EXPECT_EQ(bytes.decode(all.windows.at(0)), "aaa\n\nbb\n\ncc");
  EXPECT_EQ(all.manifest.documents, 3);
  ASSERT_EQ(all.manifest.sources.size(), 2u);
  EXPECT_EQ(all.manifest.sources[0].name, "set/a/z.txt");
  // Only the files that were needed are sources, and that is said.
  const CalibrationSet head = build_calibration({.set = set + "/", .samples = 1, .seqlen = 3}, &bytes);
  ASSERT_EQ(head.manifest.sources.size(), 1u);
  EXPECT_NE(head.manifest.notes.at(0).find("first 1 of 2 files"), std::string::npos);
  // Draws count text files as documents. random.seed(0); d = ["aaa", "bb", "cc"]; for _ in range(6):
  // i = random.randint(0, 2); print(d[i][random.randint(0, len(d[i]) - 2)])
  const CalibrationSet drawn =
      build_calibration({.set = set, .samples = 6, .seqlen = 1, .sampling = Sampling::gptq}, &bytes);
  std::string letters;
  for (const Ids& w : drawn.windows) letters += bytes.decode(w);
  EXPECT_EQ(letters, "bacbbc");
  EXPECT_EQ(drawn.manifest.sources.size(), 2u);

  dir.write("empty/readme.md", "x");
  expect_error(Exit::data, "no *.txt or *.jsonl",
               [&] { build_calibration({.set = (dir.path() / "empty").string()}, &bytes); });
  for (const char* name : {"x.parquet", "x.jsonl.gz", "x.zst"}) {
    const std::string file = dir.write(name, "PAR1");
    expect_error(Exit::data, "text or JSON Lines is needed", [&] { build_calibration({.set = file}, &bytes); });
  }
}

TEST(Mixture, Parses) {
  EXPECT_TRUE(parse_mixture("c4").empty());
  const auto parts = parse_mixture("flores:eng_Latn:1+c4:.5+ids:a:b:2.5");
  ASSERT_EQ(parts.size(), 3u);
  EXPECT_EQ(parts[0].set, "flores:eng_Latn");
  EXPECT_EQ(parts[2].set, "ids:a:b");
  EXPECT_EQ(parts[0].weight, 0.25);
  EXPECT_EQ(parts[1].weight, 0.125);
  EXPECT_EQ(parts[2].weight, 0.625);
  const TemporaryDirectory dir;
  EXPECT_TRUE(parse_mixture(dir.write("c++.txt", "x")).empty());  // a file
  for (const char* bad : {"a+b", "a:1+b", "a:1+", "+", "a:1+b:x", "a:1+b:1e3", "a:1+b:0x1", "a:1+b:-1", "a:1+b:nan",
                          "a:1+b:inf", "a:1+b: 1"})
    expect_error(Exit::usage, "mixture", [&] { parse_mixture(bad); });
  for (const char* bad : {"a:0+b:1", "a:1+:1", "a:1+b:1e-999", "a:1+b:99999999999"})
    expect_error(Exit::usage, "mixture", [&] { parse_mixture(bad); });
  expect_error(Exit::usage, "named twice", [&] { parse_mixture("a:1+b:1+a:2"); });
}

TEST(Mixture, LargestRemainder) {
  const auto shares = [](const std::string& set, std::int64_t samples) {
    return apportion(parse_mixture(set), samples);
  };
  using Shares = std::vector<std::int64_t>;
  EXPECT_EQ(shares("a:0.5+b:0.5", 128), (Shares{64, 64}));
  EXPECT_EQ(shares("a:0.5+b:0.5", 5), (Shares{3, 2}));  // equal remainders: the earlier part
  EXPECT_EQ(shares("a:1+b:1+c:1", 128), (Shares{43, 43, 42}));
  EXPECT_EQ(shares("a:0.1+b:0.2+c:0.7", 10), (Shares{1, 2, 7}));  // though 0.7 * 10 is not 7 in binary
  EXPECT_EQ(shares("a:47+b:16+c:15.8+d:12+e:6.1+f:3.1", 20), (Shares{10, 3, 3, 2, 1, 1}));  // a and d both have .4 left
  expect_error(Exit::usage, "gets none of 10", [&] { shares("a:1+b:0.01", 10); });
}

TEST(Mixture, Interleaves) {
  using Order = std::vector<std::size_t>;
  EXPECT_EQ(interleave({2, 2}), (Order{0, 1, 0, 1}));
  EXPECT_EQ(interleave({4, 2}), (Order{0, 1, 0, 0, 1, 0}));
  EXPECT_EQ(interleave({1, 3}), (Order{1, 0, 1, 1}));
  EXPECT_EQ(interleave({0, 2}), (Order{1, 1}));
}

TEST(Mixture, BuildsAndRecordsParts) {
  const TemporaryDirectory dir;
  const std::string a = dir.write("a.txt", std::string(100, 'a')), b = dir.write("b.txt", std::string(11, 'b'));
  const std::string ids = dir.write("w.ids", "1 2 3\n4 5 6\n7 8 9\n");
  const ByteTokenizer bytes;
  CalibrationRequest request{.set = a + ":0.5+" + b + ":0.25+ids:" + ids + ":0.25", .samples = 8, .seqlen = 10};
  const CalibrationSet set = build_calibration(request, &bytes);
  // 4, 2 and 2 are asked for; b has one.
  ASSERT_EQ(set.windows.size(), 7u);
  std::string order;
  for (const Ids& w : set.windows) order += w[0] > 9 ? static_cast<char>(w[0]) : 'i';
  EXPECT_EQ(order, "aiabaia");
  const auto json = manifest_json(set.manifest);
  EXPECT_EQ(json["parts"].size(), 3u);
  EXPECT_EQ(json["parts"][1]["windows"], 1);
  EXPECT_EQ(json["parts"][1]["samples"], 2);
  EXPECT_EQ(json["parts"][2]["weight"], 0.25);
  EXPECT_EQ(json["windows"], 7);
  EXPECT_EQ(json["tokens"], 56);
  EXPECT_TRUE(needs_tokenizer(request.set));
  EXPECT_FALSE(needs_tokenizer("ids:x:1+ids:y:1"));
  request.seqlen = 20;
  expect_error(Exit::data, "'b.txt' has 11 tokens", [&] { build_calibration(request, &bytes); });
}

}  // namespace
}  // namespace ptq

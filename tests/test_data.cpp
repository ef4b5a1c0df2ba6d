// data/: random numbers of CPython and NumPy, texts, tasks and the download script. Expected values come from CPython
// 3.11 (random, str), NumPy 2.4 and from the publishers' files in $PTQ_DATA. Calibration sets: test_calibration*.cpp.
#include "data/near_names.h"
#include "data/numpy_random.h"
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

// python3 -c "import numpy as n; print(n.random.default_rng(42).permutation(1000)[:12])"
TEST(NumpyRandom, PermutationEqualsNumPy) {
  using Order = std::vector<std::int64_t>;
  EXPECT_EQ(numpy_permutation(42, 10), (Order{5, 6, 0, 7, 3, 2, 4, 9, 1, 8}));
  EXPECT_EQ(numpy_permutation(0, 7), (Order{2, 4, 3, 6, 5, 0, 1}));
  EXPECT_EQ(numpy_permutation(1, 0), Order{});
  EXPECT_EQ(numpy_permutation(1, 1), Order{0});
  const Order wide = numpy_permutation((std::uint64_t{1} << 33) + 5, 20);  // a seed of two words
  EXPECT_EQ(Order(wide.begin(), wide.begin() + 12), (Order{16, 5, 8, 12, 18, 6, 10, 2, 4, 1, 13, 0}));
  const Order thousand = numpy_permutation(42, 1000);
  EXPECT_EQ(Order(thousand.begin(), thousand.begin() + 12),
            (Order{978, 933, 859, 916, 127, 608, 856, 260, 147, 810, 635, 972}));
  std::int64_t weighted = 0;
  for (std::int64_t i = 0; i < 1000; ++i) weighted += i * thousand[static_cast<std::size_t>(i)];
  EXPECT_EQ(weighted, 248321539);
}

TEST(NearNames, NearestFirst) {
  const std::vector<std::string> names{"deu_Latn", "eng_Latn", "zho_Hans", "zho_Hant", "zsm_Latn"};
  EXPECT_EQ(near_names("zho_hans", names, 2), (std::vector<std::string>{"zho_Hans", "zho_Hant"}));
  EXPECT_EQ(near_names("english", names, 1), std::vector<std::string>{"eng_Latn"});
  EXPECT_EQ(near_names("due_Latn", names, 1), std::vector<std::string>{"deu_Latn"});
  EXPECT_EQ(near_names(std::string(1 << 20, 'x'), names).size(), 5u);  // bounded work
  EXPECT_TRUE(near_names("x", {}).empty());
}

TEST(PythonText, StripsWhatPythonCallsSpace) {
  EXPECT_EQ(python_strip(" \t\n\v\f\r\x1c\x1f\xc2\x85\xc2\xa0\xe1\x9a\x80 a b\xe2\x80\xa8\xe3\x80\x80\xe2\x80\xaf"),
            "a b");
  EXPECT_EQ(python_rstrip("  x \xe2\x81\x9f"), "  x");
  EXPECT_EQ(python_rstrip("x\xe2\x80\x8b"), "x\xe2\x80\x8b");  // ZERO WIDTH SPACE is not space
  EXPECT_EQ(python_strip("\xc2\xa0"), "");
  EXPECT_EQ(code_points("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x99\x82"), 4);
}

TEST(Corpora, WikitextRowsAreJoined) {
  const TemporaryDirectory dir;
  dir.write("wikitext2/wiki.test.raw", " \n = A = \n \n b\n");
  EXPECT_EQ(read_wikitext2(dir.path()).text, "\n\n = A = \n\n\n\n\n b\n");
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

TEST(Tasks, WinograndeLinesInAUsersFile) {
  const TemporaryDirectory dir;
  const std::string line = R"({"sentence":"A saw _ because b.","option1":"X","option2":"Y","answer":"2"})";
  const Task task = read_task(dir.write("blanks.jsonl", line), {});
  EXPECT_EQ(task.documents[0].contexts, (std::vector<std::string>{"A saw X", "A saw Y"}));
  EXPECT_EQ(task.documents[0].gold, 1);
  EXPECT_FALSE(task.normalized);
  const std::string plain = R"({"context":"Q","choices":["a","b"],"gold":1})";
  EXPECT_TRUE(read_task(dir.write("plain.jsonl", plain), {}).normalized);
  EXPECT_FALSE(read_task(dir.write("both.jsonl", plain + "\n" + line), {}).normalized);
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

TEST(Prepare, FoldersLargeSetsAndManualOnes) {
  if (std::system("python3 -c 'import tarfile' 2>/dev/null") != 0) GTEST_SKIP() << "no python3";
  const TemporaryDirectory dir;
  dir.write("site/top/dev/a.dev", "a");
  dir.write("site/top/dev/b.dev", "b");
  dir.write("site/top/other/c", "c");
  dir.write("site/part.jsonl", "{}");
  const std::string site = (dir.path() / "site").string();
  ASSERT_EQ(std::system(fmt::format("cd {} && ln -s /etc/passwd top/dev/link && tar czf t.tgz ./top", site).c_str()),
            0);
  const auto prepare = [&](int count, const std::string& named) {
    nlohmann::json sources;
    sources["folder"] = {{"url", "file://" + site + "/t.tgz"},
                         {"licence", "none"},
                         {"files", {{{"name", "set/dev"}, {"folder", "top/dev"}, {"count", count}}}}};
    sources["large"] = {{"url", "file://" + site + "/"},
                        {"licence", "none"},
                        {"large", "much"},
                        {"files", {{{"name", "big/part.jsonl"}}}}};
    sources["asked"] = {{"manual", "ask"}, {"licence", "none"}, {"files", {{{"name", "asked/x"}}}}};
    const std::string file = dir.write("sources.json", sources.dump());
    return std::system(fmt::format("python3 {}/data/prepare.py {} {} --sources {} >{} 2>&1", PTQ_SOURCE_DIR,
                                   (dir.path() / "out").string(), named, file, (dir.path() / "log").string())
                           .c_str());
  };
  EXPECT_NE(prepare(3, ""), 0);  // a link is not unpacked, so two files
  EXPECT_FALSE(fs::exists(dir.path() / "out/set"));
  EXPECT_EQ(prepare(2, ""), 0) << read_file(dir.path() / "log", "log");
  EXPECT_EQ(get(dir.path() / "out/set/dev/b.dev"), "b");
  EXPECT_FALSE(fs::exists(dir.path() / "out/set/dev/link"));
  EXPECT_FALSE(fs::exists(dir.path() / "out/big"));  // only when it is named
  EXPECT_EQ(prepare(2, "large"), 0);
  EXPECT_EQ(get(dir.path() / "out/big/part.jsonl"), "{}");
  EXPECT_NE(prepare(2, "asked"), 0);
  EXPECT_NE(get(dir.path() / "log").find("ask"), std::string::npos);
}

}  // namespace
}  // namespace ptq

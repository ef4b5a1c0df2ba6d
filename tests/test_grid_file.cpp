// Grid files: what they say, and that whatever is wrong in one is named with its line.
#include "eval/grid_file.h"
#include "temporary.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace ptq {
namespace {

const std::filesystem::path grids = std::filesystem::path(PTQ_SOURCE_DIR) / "reproduce" / "grids";

const std::string good = R"(name = "good"
dtype = "fp32"
baseline = "words"
models = "m"

[report]
margin = 0.01
names = ["a", "b"]

[[metric]]
name = "ppl"
text = "wikitext2"
seqlen = 128
windows = 4

[[metric]]
name = "piqa"
task = "piqa"
limit = 10
bos = true

[[model]]
name = "A"
path = "org/a"
shape = { layers = 2, width = 64, ffn = 128, heads = 4, vocab = 100 }

[[model]]
name = "twin"
of = "A"
inject = { at = "norm", channels = 2, scale = 8, seeds = [1, 2] }

[[method]]
name = "FP16"
method = "full-precision"

[[method]]
name = "GPTQ"
method = "gptq"
scheme = "w4a16-g32-asym"
damp = 0.02
dead = "rtn"

[[method]]
name = "RTN"
method = "rtn"

[[method]]
name = "removed"
method = "remove-injected"

[[set]]
name = "words"
set = "words.txt"
samples = 4
seqlen = 16
sampling = "gptq"
seeds = [1, 2]

[[set]]
name = "languages"
sets = ["flores:eng_Latn", "flores:zho_Hans"]

[axes]
models = ["A", "twin"]
methods = ["FP16", "GPTQ", "RTN"]

[[exclude]]
models = ["twin"]
methods = ["RTN"]

[[include]]
models = ["twin"]
methods = ["removed"]
metrics = ["ppl"]

[[study]]
models = ["A"]
sets = ["words #1"]
bins = 20
)";

TEST(GridFile, SaysWhatItSays) {
  const Grid grid = parse_grid(good, "/somewhere/good.toml");
  EXPECT_EQ(grid.name, "good");
  EXPECT_EQ(grid.dtype, DType::f32);
  EXPECT_EQ(grid.baseline, "words");
  EXPECT_EQ(grid.models, "/somewhere/m");
  EXPECT_EQ(grid.report, (nlohmann::json{{"margin", 0.01}, {"names", {"a", "b"}}}));
  ASSERT_EQ(grid.metrics.size(), 2u);
  EXPECT_EQ(grid.metrics[0].seqlen, 128);
  EXPECT_EQ(grid.metrics[0].windows, 4);
  EXPECT_FALSE(grid.metrics[1].perplexity);
  EXPECT_TRUE(grid.metrics[1].bos);
  EXPECT_EQ(grid.metrics[1].limit, 10);
  ASSERT_EQ(grid.model.size(), 3u);
  EXPECT_EQ(grid.model[2].name, "twin #2");
  EXPECT_EQ(grid.model[2].path, "org/a");
  EXPECT_EQ(grid.model[2].inject->seed, 2u);
  EXPECT_EQ(grid.model[2].inject->scale, 8.0f);
  EXPECT_EQ(grid.model[2].shape->ffn, 128);
  EXPECT_EQ(grid.model[0].shape->head_dim, 16);
  const QuantSpec& gptq = grid.method.at(1).spec;
  EXPECT_EQ(gptq.bits, 4);
  EXPECT_EQ(gptq.group, 32);
  EXPECT_FALSE(gptq.symmetric);
  EXPECT_EQ(gptq.damp, 0.02);
  EXPECT_EQ(gptq.dead, DeadPolicy::rtn);
  ASSERT_EQ(grid.set.size(), 4u);
  EXPECT_EQ(grid.set[1].title, "words #2");
  EXPECT_EQ(grid.set[1].request.seed, 2u);
  EXPECT_EQ(grid.set[1].request.samples, 4);
  EXPECT_EQ(grid.set[3].name, "flores:zho_Hans");
  EXPECT_EQ(grid.set[3].group, "languages");
  EXPECT_EQ(grid.set[3].title, "flores:zho_Hans");
  // A and two twins: FP16 and four GPTQ each; RTN of A; removed of the twins; a study.
  EXPECT_EQ(grid.evaluations(), 3u * 5 + 1 + 2);
  EXPECT_EQ(grid.numbers(), 2u * (3 * 5 + 1) + 2);
  EXPECT_EQ(grid.studies(), 1u);
  EXPECT_EQ(grid.study.at(0).bins, 20);
}

struct Mistake {
  std::string from, to;  // a piece of `good`, and what stands there instead
  std::string at;        // the message names the line of this; empty: line 1
  std::vector<std::string> words;
};

const std::vector<Mistake> mistakes{
    // keys that nobody asked for
    {"seqlen = 128", "seqlne = 128", "seqlne", {"unknown key 'seqlne'", "did you mean seqlen?", "[[metric]]"}},
    {"baseline =", "basline =", "basline", {"did you mean baseline?"}},
    {"damp = 0.02", "dmap = 0.02", "dmap", {"did you mean damp?"}},
    {"[axes]\n", "[axes]\nmodel = [\"A\"]\n", "model = [\"A\"]", {"[axes]", "did you mean models?"}},
    {"[axes]", "[axis]", "[axis]", {"did you mean axes?"}},
    {"bins = 20", "bin = 20", "bin = 20", {"did you mean bins?"}},
    {"heads = 4,", "heads = 4, head = 4,", "shape =", {"unknown key 'head'", "did you mean heads?"}},
    {"channels = 2", "chanels = 2", "inject =", {"did you mean channels?"}},
    // names that nothing has
    {"method = \"gptq\"", "method = \"gtpq\"", "\"gtpq\"", {"gtpq", "gptq", "awq", "full-precision"}},
    {"\"words.txt\"", "\"c5\"", "\"c5\"", {"'c5' is not a calibration set", "did you mean c4?"}},
    {"\"flores:zho_Hans\"", "\"flore:zho_Hans\"", "\"flore:zho_Hans\"", {"did you mean flores"}},
    {"\"words.txt\"", "\"c4:0.5+pile:0.5\"", "pile", {"'pile' is not a calibration set"}},
    {"\"words.txt\"", "\"c4:0.5+nonsense\"", "nonsense", {"has no weight"}},
    {"task = \"piqa\"", "task = \"piqua\"", "piqua", {"'piqua' is not known", "did you mean piqa?"}},
    {"scheme = \"w4a16-g32-asym\"", "scheme = \"w9a16\"", "w9a16", {"w9"}},
    {"dead = \"rtn\"", "dead = \"alive\"", "alive", {"alive", "zero"}},
    {"dtype = \"fp32\"", "dtype = \"fp64\"", "fp64", {"fp32, bf16 or fp16"}},
    {"sampling = \"gptq\"", "sampling = \"all\"", "\"all\"", {"consecutive"}},
    {"at = \"norm\"", "at = \"nrom\"", "nrom", {"updown"}},
    {"of = \"A\"", "of = \"B\"", "of = \"B\"", {"'B' is not a model"}},
    {"of = \"A\"", "of = \"twin\"", "of = \"twin\"", {"'twin' is not a model"}},
    {"baseline = \"words\"", "baseline = \"word\"", "baseline", {"'word' is not a [[set]]"}},
    {"models = [\"A\", \"twin\"]", "models = [\"A\", \"twim\"]", "twim", {"'twim' names nothing", "near: ", "twin"}},
    {"models = [\"twin\"]\nmethods = [\"RTN\"]",
     "models = [\"twin\"]\nmethods = [\"rtn\"]",
     "\"rtn\"]",
     {"[[exclude]]", "near: RTN"}},
    {"metrics = [\"ppl\"]", "metrics = [\"pplx\"]", "pplx", {"[[include]]", "near: "}},
    {"sets = [\"words #1\"]", "sets = [\"words #9\"]", "words #9", {"[[study]]", "words #1"}},
    // empty things
    {"models = [\"A\", \"twin\"]", "models = []", "models = []", {"[axes]", "empty list"}},
    {"methods = [\"FP16\", \"GPTQ\", \"RTN\"]", "methods = [\"\"]", "methods = [\"\"]", {"1 to 4096 bytes"}},
    {"sets = [\"flores:eng_Latn\", \"flores:zho_Hans\"]", "sets = []", "sets = []", {"empty list"}},
    {"seeds = [1, 2]\n\n[[set]]", "seeds = []\n\n[[set]]", "seeds = []\n", {"empty list"}},
    {"name = \"A\"", "name = \"\"", "name = \"\"", {"name is empty"}},
    {"name = \"A\"\n", "", "[[model]]", {"name is missing"}},
    {"text = \"wikitext2\"\n", "", "[[metric]]", {"text", "task"}},
    {"path = \"org/a\"\n", "", "[[model]]", {"path or of"}},
    {"inject = { at = \"norm\", channels = 2, scale = 8, seeds = [1, 2] }",
     "",
     "[[model]]\nname = \"twin\"",
     {"inject"}},
    {", vocab = 100", "", "shape =", {"vocab is missing"}},
    {"name = \"A\"", "name = \"A\\nB\"", "name = \"A", {"name holds a control character"}},
    {"\"flores:eng_Latn\"", "\"flores:eng\\u0007\"", "flores:eng", {"control characters"}},
    // names twice
    {"name = \"twin\"", "name = \"A\"", "[[model]]\nname = \"A\"\nof", {"'A' is taken already"}},
    {"name = \"piqa\"", "name = \"ppl\"", "[[metric]]\nname = \"ppl\"\ntask", {"'ppl' is taken already"}},
    {"name = \"RTN\"", "name = \"GPTQ\"", "[[method]]\nname = \"GPTQ\"\nmethod = \"rtn\"", {"'GPTQ' is taken already"}},
    {"name = \"languages\"", "name = \"words\"", "sets = [\"flores", {"is taken already"}},
    {"\"flores:zho_Hans\"]", "\"flores:eng_Latn\"]", "sets = [\"flores", {"'flores:eng_Latn' is taken already"}},
    {"name = \"good\"", "name = \"good\"\nname = \"better\"", "name = \"better\"", {"not TOML"}},
    // wrong types
    {"seqlen = 128", "seqlen = \"128\"", "seqlen = \"128\"", {"must be an integer, not a string"}},
    {"seqlen = 128", "seqlen = 128.0", "seqlen = 128.0", {"must be an integer, not a number with a fraction"}},
    {"bos = true", "bos = 1", "bos = 1", {"must be true or false"}},
    {"name = \"good\"", "name = 7", "name = 7", {"bad.toml:1: name must be a string, not an integer"}},
    {"name = \"good\"", "name = 1979-05-27", "name = 1979", {"a date or a time"}},
    {"models = [\"A\", \"twin\"]", "models = [\"A\", 2]", "models = [\"A\", 2]", {"must hold strings"}},
    {"models = [\"A\", \"twin\"]", "models = { a = 1 }", "models = { a", {"a string or a list of strings"}},
    {"seeds = [1, 2]\n\n[[set]]", "seeds = [1, -2]\n\n[[set]]", "seeds = [1, -2]", {"an integer from 0"}},
    {"damp = 0.02", "damp = \"2%\"", "damp = \"2%\"", {"a finite number"}},
    {"damp = 0.02", "damp = nan", "damp = nan", {"a finite number"}},
    {"shape = { layers = 2, width = 64, ffn = 128, heads = 4, vocab = 100 }", "shape = 5", "shape = 5", {"a table"}},
    {"[axes]\nmodels = [\"A\", \"twin\"]\nmethods = [\"FP16\", \"GPTQ\", \"RTN\"]",
     "[[axes]]\nmodels = [\"A\"]",
     "[[axes]]",
     {"axes", "must be a table"}},
    {"[[study]]", "[study]", "[study]", {"[[study]]"}},
    {"[report]\nmargin = 0.01\nnames = [\"a\", \"b\"]", "report = 3", "report", {"table"}},
    {"margin = 0.01", "margin = inf", "margin = inf", {"[report]"}},
    {"margin = 0.01", "margin = 07:32:00", "margin = 07", {"[report]"}},
    // out of range
    {"seqlen = 128", "seqlen = 1", "seqlen = 1\n", {"out of range", "2 to"}},
    {"windows = 4", "windows = 0", "windows = 0", {"out of range"}},
    {"limit = 10", "limit = -5", "limit = -5", {"out of range"}},
    {"seqlen = 128", "seqlen = 9223372036854775807", "seqlen = 9", {"out of range"}},
    {"seqlen = 128", "seqlen = 9223372036854775808", "seqlen = 9", {"not TOML"}},
    {"layers = 2", "layers = 0", "shape =", {"layers = 0 is out of range"}},
    {"damp = 0.02", "damp = 1.5", "[[method]]\nname = \"GPTQ\"", {"1.5 is out of range"}},
    {"scale = 8", "scale = 0", "inject =", {"scale must be above 0"}},
    {"scale = 8", "scale = 1e300", "inject =", {"scale is out of range"}},
    {"scale = 8", "offset = 1e39", "inject =", {"offset is out of range"}},
    {"at = \"norm\", channels = 2, scale = 8", "at = \"vo\", offset = 3", "inject =", {"offset applies to"}},
    {"bins = 20", "bins = 99999999", "bins = 9", {"out of range"}},
    {"bins = 20", "range = -1", "range = -1", {"above 0"}},
    // things that do not go together
    {"path = \"org/a\"", "path = \"org/a\"\nof = \"B\"", "[[model]]", {"either path or of"}},
    {"task = \"piqa\"", "task = \"piqa\"\ntext = \"x.txt\"", "[[metric]]\nname = \"piqa\"", {"either text"}},
    {"limit = 10", "seqlen = 10", "seqlen = 10", {"unknown key 'seqlen'"}},
    {"set = \"words.txt\"", "set = \"words.txt\"\nsets = [\"c4\"]", "[[set]]", {"either set or sets"}},
    {"seeds = [1, 2]\n\n[[set]]", "seed = 1\nseeds = [1, 2]\n\n[[set]]", "[[set]]", {"seed or order"}},
    {"sampling = \"gptq\"\nseeds = [1, 2]", "seeds = [1, 2]", "set = \"words.txt\"", {"seeds do not change"}},
    {"samples = 4", "format = \"cloze\"", "format", {"must be one of", "answers"}},
    {"samples = 4", "format = \"answers\"", "set = \"words.txt\"", {"format is for sets of questions"}},
    {"method = \"rtn\"",
     "method = \"rtn\"\ndamp = 0.5",
     "[[method]]\nname = \"RTN\"",
     {"--damp does not apply to rtn"}},
    {"method = \"rtn\"", "method = \"rtn\"\nproducts = \"fake\"", "products", {"quantize activations"}},
    {"method = \"full-precision\"",
     "method = \"full-precision\"\nscheme = \"w8a8\"",
     "scheme = \"w8a8\"",
     {"unknown key 'scheme'"}},
    {"[[include]]\nmodels = [\"twin\"]",
     "[[include]]\nmodels = [\"A\"]",
     "[[include]]",
     {"removed: nothing is injected into A"}},
    {"methods = [\"FP16\", \"GPTQ\", \"RTN\"]", "methods = [\"*\"]", "[axes]", {"nothing is injected into A"}},
    // not TOML
    {"name = \"good\"", "name = good", "name = good", {"not TOML"}},
    {"[[set]]", "[[set]", "[[set]\n", {"not TOML"}},
    {"dtype = \"fp32\"", "dtype", "dtype", {"not TOML"}},
};

TEST(GridFile, MistakesAreNamedWithTheirLine) {
  for (const Mistake& m : mistakes) {
    SCOPED_TRACE(m.from + " -> " + m.to);
    std::string text = good;
    ASSERT_NE(text.find(m.from), std::string::npos);
    text.replace(text.find(m.from), m.from.size(), m.to);
    const std::size_t place = text.find(m.at);
    ASSERT_NE(place, std::string::npos) << m.at;
    const auto line = std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(place), '\n') + 1;
    const auto parse = [&] { parse_grid(text, "bad.toml"); };
    expect_error(Exit::data, fmt::format("bad.toml:{}: ", line), parse);
    for (const std::string& word : m.words) expect_error(Exit::data, word, parse);
  }
}

TEST(GridFile, NeedsSomethingOnEveryAxis) {
  const std::vector<std::string> tables{"[[metric]]\nname='p'\ntext='t'\n", "[[model]]\nname='m'\npath='p'\n",
                                        "[[method]]\nname='q'\nmethod='gptq'\n", "[[set]]\nset='c4'\n"};
  for (std::size_t left_out = 0; left_out <= tables.size(); ++left_out) {
    std::string text;
    for (std::size_t i = 0; i < tables.size(); ++i) text += i == left_out ? "" : tables[i];
    const auto parse = [&] { return parse_grid(text, "g.toml"); };
    if (left_out == tables.size()) {
      EXPECT_EQ(parse().cells.size(), 1u);
      expect_error(Exit::data, "nothing is left",
                   [&] { parse_grid(text + "[[exclude]]\nmodels = ['m']\n", "g.toml"); });
    } else {
      expect_error(Exit::data, "no " + tables[left_out].substr(0, tables[left_out].find('\n')), parse);
    }
  }
  expect_error(Exit::missing, "g.toml", [] { read_grid("/nowhere/g.toml"); });
}

std::string repeated(const std::string& what, std::size_t count) {
  std::string text;
  for (std::size_t i = 0; i < count; ++i) text += what;
  return text;
}

// Deep nesting would use up the stack, long lists hours; none of it may end in anything but an Error.
TEST(GridFile, HostileTomlIsRefused) {
  constexpr std::size_t deep = 100000;
  const std::vector<std::string> texts{
      "a = " + repeated("[", deep),
      "a = " + repeated("[", deep) + repeated("]", deep),
      "a = " + repeated("{a=", deep) + "1" + repeated("}", deep),
      "[report]\n" + repeated("a.", deep) + "a = 1",
      "[report." + repeated("a.", deep) + "a]\nb = 1",
      "[[report." + repeated("a.", deep) + "a]]",
      "[report]\n" + repeated("\"a.b\" . ", deep) + "a = 1",
      "[report]\nx = {" + repeated("a.", deep) + "a = 1}",
      "[report]\nx = " + repeated("[", 200) + repeated("{" + repeated("a.", 120) + "a = [\n", 120),
      "a = " + repeated("9", deep),
      "a = 0x" + repeated("f", 40),
      "a = 1e999999",
      "a = 0." + repeated("1", deep),
      "a = \"\xff\xfe\xc0\x80\"",
      std::string("a = \"x\0y\"\n", 10),
      std::string("a = 1\n\0b = 2\n", 13),
      std::string("\0", 1),
      "\xef\xbb\xbf name = 3",
      "a = \"\\ud800\"",
      "a = \"\\U0011ffff\"",
      "a = 9999-99-99T99:99:99Z",
      "a = \"\"\"" + repeated("x\n", deep),
      "name = \"" + repeated("x", deep) + "\"",
      "name = \"a\\nb\\u0007\"\nfoo = 1",
      "\"a\\nb\" = 1",
      "[\"\"]\n",
      "",
      repeated("[[metric]]\nname='x'\ntext='t'\n", 2),
  };
  for (const std::string& text : texts) {
    SCOPED_TRACE(text.substr(0, 40));
    const auto parse = [&] { parse_grid(text, "g.toml"); };
    expect_error(Exit::data, "g.toml:", parse);
    expect_error(Exit::data, ": ", parse);
  }
}

// What would take hours or all memory to expand is refused by its numbers.
TEST(GridFile, SizesAreBounded) {
  const auto numbers = [](int count) {
    std::string list = "[";
    for (int i = 0; i < count; ++i) list += std::to_string(i) + ",\n";
    return list + "]";
  };
  const std::string head = "[[metric]]\nname='p'\ntext='t'\n[[method]]\nname='q'\nmethod='gptq'\n";
  const std::string model = "[[model]]\nname='m'\npath='p'\n";
  expect_error(Exit::data, "calibration sets", [&] {
    parse_grid(head + model + "[[set]]\nset='nonsense'\nseeds=" + numbers(9000) + "\norders=" + numbers(9000),
               "g.toml");
  });
  expect_error(Exit::data, "more than 10000 models", [&] {
    std::string text = head + model + "[[set]]\nset='c4'\n";
    for (int i = 0; i < 2; ++i)
      text += fmt::format("[[model]]\nname='t{}'\nof='m'\ninject={{at='norm', seeds={}}}\n", i, numbers(9000));
    parse_grid(text, "g.toml");
  });
  // 2000 twins of 1000 sets: two million cells, excluded again or not.
  const std::string wide = head + model + "[[model]]\nname='t'\nof='m'\ninject={seeds=" + numbers(2000) +
                           "}\n[[set]]\nset='nonsense'\nseeds=" + numbers(1000) + "\n";
  expect_error(Exit::data, "more than 1000000 cells", [&] { parse_grid(wide, "g.toml"); });
  expect_error(Exit::data, "more than 1000000 cells",
               [&] { parse_grid(wide + "[[exclude]]\nmodels=['t*']\n", "g.toml"); });
  std::string many = "[report]\nx = 1\n";
  for (int i = 0; i < 11000; ++i) many += fmt::format("[[metric]]\nname='m{}'\ntext='t'\n", i);
  expect_error(Exit::data, "metric has more than 10000 entries", [&] { parse_grid(many, "g.toml"); });
}

// Thousands of damaged copies of a real grid: each is either a grid or an Error of one line.
TEST(GridFile, MutationsNeverCrash) {
  const std::string original = get(grids / "small.toml");
  ASSERT_GT(original.size(), 1000u);
  const std::vector<std::string> pieces{
      "[",           "]",       "[[", "]]", "{",        "}",   "\"",   "'",    "\n",   "=",  ".",      ",",
      "#",           "\\",      "-",  "0",  "1e9",      "nan", "inf",  "true", "\"\"", "[]", "{}",     "\0",
      "\xff",        "\"\"\"",  "*",  "?",  "99999999", "-1",  "name", "set",  "sets", "of", "inject", "seeds = [1, 2]",
      "[[model]]\n", "[axes]\n"};
  std::mt19937 random(20835);
  int grids_left = 0, refused = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string text = original;
    for (unsigned n = 1 + random() % 3; n > 0; --n) {
      const std::size_t at = random() % text.size(), length = random() % 12;
      switch (random() % 5) {
        case 0:
          text[at] = static_cast<char>(random());
          break;
        case 1:
          text.insert(at, pieces[random() % pieces.size()]);
          break;
        case 2:
          text.erase(at, length);
          break;
        case 3:
          text.insert(at, text.substr(random() % text.size(), 4 * length));
          break;
        default: {  // lines
          const std::size_t begin = text.rfind('\n', at) + 1, end = std::min(text.find('\n', at), text.size());
          const std::string line = text.substr(begin, end - begin);
          random() % 2 ? text.erase(begin, end - begin) : text.insert(begin, line + "\n");
        }
      }
      if (text.empty()) text = "x";
    }
    try {
      const Grid grid = parse_grid(text, "g.toml");
      EXPECT_FALSE(grid.cells.empty());
      ++grids_left;
    } catch (const Error& e) {
      const std::string message = e.what();
      EXPECT_EQ(e.code(), Exit::data) << message;
      EXPECT_TRUE(message.starts_with("g.toml:") && !message.starts_with("g.toml:0")) << message;
      EXPECT_LT(message.size(), 1200u) << message;
      EXPECT_TRUE(std::ranges::all_of(message, [](char c) { return c >= ' ' && c <= '~'; }))
          << round << ": " << message;
      ++refused;
    }
  }
  EXPECT_GT(grids_left, 100);
  EXPECT_GT(refused, 1000);
}

TEST(GridFile, GridsOfTheTree) {
  const Grid paper = read_grid(grids / "paper.toml");
  EXPECT_EQ(paper.evaluations(), 3774u);
  EXPECT_EQ(paper.studies(), 1254u);
  EXPECT_EQ(paper.numbers(), 15096u);
  EXPECT_EQ(paper.baseline, "redpajama");
  EXPECT_TRUE(std::ranges::all_of(paper.model, [](const GridModel& m) { return m.shape.has_value(); }));
  EXPECT_EQ(std::ranges::count_if(paper.set, [](const GridSet& s) { return s.request.set.starts_with("flores:"); }),
            205);
  const Grid small = read_grid(grids / "small.toml");
  EXPECT_GE(small.evaluations(), 40u);
  EXPECT_EQ(small.baseline, "c4");
}

}  // namespace
}  // namespace ptq

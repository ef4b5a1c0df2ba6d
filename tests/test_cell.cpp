// Identity of cells, and that `ptq run` computes with them what `ptq quantize` and `ptq eval` compute with files.
#include "eval/cell.h"
#include "eval/grid_file.h"
#include "program.h"
#include "tiny_grid.h"

#include <gtest/gtest.h>

#include <map>

namespace ptq {
namespace {

const std::string base = R"(name = "base"
[[metric]]
name = "ppl"
text = "t.txt"
seqlen = 64
windows = 5
[[metric]]
name = "task"
task = "piqa"
limit = 20
[[model]]
name = "A"
path = "a"
[[model]]
name = "twin"
of = "A"
inject = { at = "norm", channels = 2, scale = 8, offset = 0.5, seed = 1 }
[[method]]
name = "Q"
method = "gptq"
scheme = "w4a16-g32-asym"
[[method]]
name = "AWQ"
method = "awq"
[[method]]
name = "SQ"
method = "smoothquant"
[[set]]
name = "s"
set = "c4"
samples = 4
seqlen = 16
seed = 3
sampling = "gptq"
order = 7
[axes]
models = ["twin"]
methods = ["Q"]
)";

struct Change {
  std::string from, to;
};

CellInputs some_inputs() {
  return {
      .model_sha256 = "m", .tokenizer_sha256 = "t", .ids_sha256 = "i", .metric_sha256 = {"p", "q"}, .backend = "cpu"};
}

std::string id_of(const std::vector<Change>& changes, const CellInputs& inputs = some_inputs()) {
  std::string text = base;
  for (const Change& change : changes) {
    EXPECT_NE(text.find(change.from), std::string::npos) << change.from;
    text.replace(text.find(change.from), change.from.size(), change.to);
  }
  const Grid grid = parse_grid(text, "g.toml");
  EXPECT_EQ(grid.cells.size(), 1u);
  CellInputs fitting = inputs;
  fitting.metric_sha256.resize(grid.cells.at(0).metrics.size(), "r");
  return cell_id(cell_identity(grid, grid.cells.at(0), fitting));
}

TEST(CellIdentity, CanonicalJsonAndItsDigest) {
  const nlohmann::json json = {{"b", 1}, {"a", {0.1, 1e300, 128.0, -0.0, nullptr, true}}, {"\u00e9\n", "x\"y"}};
  EXPECT_EQ(canonical_json(json), "{\"a\":[0.1,1e+300,128.0,-0.0,null,true],\"b\":1,\"\u00e9\\n\":\"x\\\"y\"}");
  // sha256sum of the bytes {"a":1}
  EXPECT_EQ(cell_id({{"a", 1}}), "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862");
  // The shortest digits that give the same double.
  for (const double value : {0.01, 0.01000001, 1.0 / 3.0, 5e-324}) {
    EXPECT_EQ(nlohmann::json::parse(canonical_json(value)).get<double>(), value);
  }
}

// The id of a cell is the name of its result on other people's disks: if this changes, numerics_version must too.
TEST(CellIdentity, StaysWhatItIs) {
  const Grid grid = parse_grid(base, "g.toml");
  EXPECT_EQ(canonical_json(cell_identity(grid, grid.cells.at(0), some_inputs())),
            R"({"backend":"cpu","calibration":{"ids_sha256":"i","order":7,"samples":4,"sampling":"gptq","seed":3,)"
            R"("seqlen":16,"set":"c4"},"dtype":"float32","kind":"evaluation","method":{"act_order":false,"bits":4,)"
            R"("block":128,"damp":0.01,"dead":"zero","group":32,"hessian_norm":"per-sequence","method":"gptq",)"
            R"("mse":false,"on_singular":"error","scheme":"w4a16-g32-asym","static_groups":false,"symmetric":false,)"
            R"("true_sequential":true},"metrics":{"ppl":{"kind":"perplexity","seqlen":64,"text_sha256":"p",)"
            R"("windows":5},"task":{"bos":false,"kind":"choice","limit":20,"max_length":0,"task_sha256":"q"}},)"
            R"("model":{"files_sha256":"m","inject":{"at":["norm"],"channels":2,"offset":0.5,"scale":8.0,"seed":1},)"
            R"("tokenizer_sha256":"t"},"numerics":1})");
}

TEST(CellIdentity, ChangesWithEveryParameter) {
  const Change awq{"methods = [\"Q\"]", "methods = [\"AWQ\"]"}, sq{"methods = [\"Q\"]", "methods = [\"SQ\"]"};
  const auto gptq = [](const std::string& option) {
    return Change{"scheme = \"w4a16-g32-asym\"", "scheme = \"w4a16-g32-asym\"\n" + option};
  };
  const auto scheme = [](const std::string& value) { return Change{"w4a16-g32-asym", value}; };
  const std::vector<std::vector<Change>> changes{
      {},
      {{"seqlen = 64", "seqlen = 65"}},
      {{"windows = 5", "windows = 6"}},
      {{"windows = 5", ""}},
      {{"limit = 20", "limit = 21"}},
      {{"limit = 20", "limit = 20\nbos = true"}},
      {{"limit = 20", "limit = 20\nmax_length = 50"}},
      {{"methods = [\"Q\"]", "methods = [\"Q\"]\nmetrics = [\"ppl\"]"}},
      {{"name = \"ppl\"", "name = \"perplexity\""}},  // results are found by it
      {{"models = [\"twin\"]", "models = [\"A\"]"}},
      {{"at = \"norm\"", "at = \"all\""}},
      {{"channels = 2", "channels = 3"}},
      {{"scale = 8", "scale = 16"}},
      {{"offset = 0.5", "offset = 0.25"}},
      {{"seed = 1", "seed = 2"}},
      {scheme("w3a16-g32-asym")},
      {scheme("w4a16-g64-asym")},
      {scheme("w4a16-row-asym")},
      {scheme("w4a16-g32-sym")},
      {scheme("w4a8-g32-asym")},
      {scheme("w4a16-g32-asym-mse")},
      {scheme("w4a16-g32-asym-act")},
      {scheme("w4a16-g32-asym-static")},
      {gptq("damp = 0.01000001")},
      {gptq("dead = \"rtn\"")},
      {gptq("hessian_norm = \"per-token\"")},
      {gptq("on_singular = \"damp\"")},
      {gptq("true_sequential = false")},
      {{"methods = [\"Q\"]", "methods = [\"F\"]\n[[method]]\nname = \"F\"\nmethod = \"full-precision\""}},
      {{"methods = [\"Q\"]", "methods = [\"F\"]\n[[method]]\nname = \"F\"\nmethod = \"remove-dead\""}},
      {{"methods = [\"Q\"]", "methods = [\"F\"]\n[[method]]\nname = \"F\"\nmethod = \"remove-injected\""}},
      {{"methods = [\"Q\"]", "methods = [\"F\"]\n[[method]]\nname = \"F\"\nmethod = \"rtn\""}},
      {awq},
      {awq, {"method = \"awq\"", "method = \"awq\"\nawq_scaling = \"duo\""}},
      {awq, {"method = \"awq\"", "method = \"awq\"\nclip = false"}},
      {awq, {"method = \"awq\"", "method = \"awq\"\ndead = \"rtn\""}},
      {sq},
      {sq, {"method = \"smoothquant\"", "method = \"smoothquant\"\nalpha = 0.7"}},
      {sq, {"method = \"smoothquant\"", "method = \"smoothquant\"\nproducts = \"fake\""}},
      {sq, {"method = \"smoothquant\"", "method = \"smoothquant\"\nscheme = \"w8a8-astatic\""}},
      {sq, {"method = \"smoothquant\"", "method = \"smoothquant\"\nscheme = \"w8a8-bmm\""}},
      {{"set = \"c4\"", "set = \"wikitext2\""}},
      {{"samples = 4", "samples = 5"}},
      {{"seqlen = 16", "seqlen = 17"}},
      {{"seed = 3", "seed = 4"}},
      {{"sampling = \"gptq\"", "sampling = \"awq\""}},
      {{"order = 7", "order = 8"}},
      {{"order = 7", ""}},
      {{"set = \"c4\"", "set = \"arc\"\nformat = \"answers\""}},
      {{"set = \"c4\"", "set = \"arc\""}},
  };
  std::map<std::string, std::size_t> seen;
  for (std::size_t i = 0; i < changes.size(); ++i) {
    const auto [at, fresh] = seen.emplace(id_of(changes[i]), i);
    EXPECT_TRUE(fresh) << "changes " << i << " and " << at->second << " have the same id";
  }
  const auto with = [&](const auto& change) {
    CellInputs inputs = some_inputs();
    change(inputs);
    EXPECT_TRUE(seen.emplace(id_of({}, inputs), changes.size()).second);
  };
  with([](CellInputs& i) { i.model_sha256 = "n"; });
  with([](CellInputs& i) { i.tokenizer_sha256 = "n"; });
  with([](CellInputs& i) { i.ids_sha256 = "n"; });
  with([](CellInputs& i) { i.metric_sha256 = {"p", "n"}; });
  with([](CellInputs& i) { i.metric_sha256 = {"q", "p"}; });
  with([](CellInputs& i) { i.backend = "cuda"; });
  with([](CellInputs& i) { i.dtype = DType::bf16; });
}

TEST(CellIdentity, DoesNotChangeWithAnythingElse) {
  const std::string id = id_of({});
  const std::vector<std::vector<Change>> changes{
      {{"name = \"base\"", "name = \"other\"\n[report]\nmargin = 3\n"}},
      {{"name = \"base\"", "name = \"other\"\nbaseline = \"s\"\nmodels = \"x\"\ndata = \"y\""}},
      {{"name = \"A\"", "name = \"B\""}, {"of = \"A\"", "of = \"B\""}},
      {{"path = \"a\"", "path = \"elsewhere/a\""}},
      {{"path = \"a\"", "path = \"a\"\nshape = { layers = 2, width = 64, ffn = 128, heads = 4, vocab = 100 }"}},
      {{"name = \"Q\"", "name = \"R\""}, {"methods = [\"Q\"]", "methods = [\"R\"]"}},
      {{"name = \"s\"", "name = \"z\""}},
      {{"[[set]]", "[[set]]\nset = \"nonsense\"\n[[set]]"}, {"methods = [\"Q\"]", "methods = [\"Q\"]\nsets = [\"s\"]"}},
      {{"[[method]]", "[[method]]\nname = \"X\"\nmethod = \"rtn\"\n[[method]]"}},
      {{"scheme = \"w4a16-g32-asym\"", "scheme = \"w4a16-g32-asym\"\ndamp = 0.01\ndead = \"zero\"\nclip = true"}},
  };
  for (std::size_t i = 0; i < changes.size(); ++i) EXPECT_EQ(id_of(changes[i]), id) << i;
}

class Equality : public testing::Test {
 protected:
  void SetUp() override { write_tiny_world(tmp.path()); }

  nlohmann::json run(const std::string& arguments) {
    const Outcome outcome =
        run_ptq(tmp.path(), arguments + " --progress none --threads 1", "cd " + tmp.path().string());
    EXPECT_EQ(outcome.code, 0) << arguments << ": " << outcome.err;
    const auto brace = outcome.out.find("\n{");
    return brace == std::string::npos ? nlohmann::json() : nlohmann::json::parse(outcome.out.substr(brace + 1));
  }

  // Metrics of `ptq quantize` and `ptq eval`.
  nlohmann::json by_files(const std::string& model, const std::string& quantize) {
    std::string directory = model;
    if (!quantize.empty()) {
      directory = fmt::format("q{}", made_++);
      run("quantize " + model + " " + directory + " " + quantize);
    }
    return run("eval " + directory +
               " --metrics ppl,choice --text data/text.txt --seqlen 32 --choices data/task.jsonl" +
               " --decode-tokens 0 --json -")
        .at("metrics");
  }

  // Results of the grid in tmp/grid.toml, by "model, method[, set]".
  std::map<std::string, nlohmann::json> by_grid(const std::string& options = "") {
    run("run grid.toml --store store " + options);
    run("collect grid.toml --store store --jsonl all.jsonl");
    std::map<std::string, nlohmann::json> results;
    const std::string all = get(tmp / "all.jsonl");
    std::istringstream lines(all);
    for (std::string line; std::getline(lines, line);) {
      const nlohmann::json row = nlohmann::json::parse(line);
      if (row.contains("grid")) continue;
      EXPECT_EQ(row.at("status"), "done");
      results[row.at("model").get<std::string>() + ", " + row.at("method").get<std::string>()] = row.at("result");
    }
    return results;
  }

  // docs/results-schema.json; nothing where python3-jsonschema is not installed.
  int validate(const std::string& store) const {
    const std::string script = std::string(PTQ_SOURCE_DIR) + "/tests/validate_results.py";
    const int status = std::system(
        ("python3 '" + script + "' '" + (tmp / store).string() + "' >/dev/null 2>" + (tmp / "log").string()).c_str());
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return code;
  }
  void expect_valid(const std::string& store) const {
    const int code = validate(store);
    EXPECT_TRUE(code == 0 || code == 77) << code << ": " << get(tmp / "log").substr(0, 2000);
  }

  static void expect_equal(const nlohmann::json& result, const nlohmann::json& files) {
    ASSERT_TRUE(result.contains("metrics"));
    for (const char* key : {"value", "stderr", "window_nll", "tokens", "windows"})
      EXPECT_EQ(result["metrics"]["ppl"].at(key), files.at("ppl").at(key)) << key;
    for (const char* key : {"acc", "acc_norm", "n"})
      EXPECT_EQ(result["metrics"]["task"].at(key), files.at("choice").at(key)) << key;
    const std::string correct = result["metrics"]["task"].at("correct").get<std::string>();
    EXPECT_EQ(correct.size(), 12u);
    EXPECT_NEAR(result["metrics"]["task"]["acc"]["value"].get<double>(),
                static_cast<double>(std::ranges::count(correct, '1')) / 12.0, 1e-12);
  }

  TemporaryDirectory tmp;
  int made_ = 0;
};

// One process computes all cells of a grid, sharing windows, ranges, head and tokenized texts; the commands share
// nothing. The order of the grid's cells is such that AWQ's ranges serve SmoothQuant and static activations.
TEST_F(Equality, RunHasTheBitsOfQuantizeAndEval) {
  struct Case {
    std::string name, method, grid_options, options;
    bool calibrated = true;
  };
  const std::vector<Case> cases{
      {"FP", "full-precision", "", "", false},
      {"RTN", "rtn", "scheme = \"w4a16-g16-asym\"", "--scheme w4a16-g16-asym", false},
      {"NF4", "nf4", "scheme = \"wnf4a16-b32\"", "--scheme wnf4a16-b32", false},
      {"W8A8", "w8a8", "", "", false},
      {"LLM.int8", "w8a8", "scheme = \"w8a8-outliers2\"", "--scheme w8a8-outliers2", false},
      {"W8A8 static", "w8a8", "scheme = \"w8a8-astatic\"", "--scheme w8a8-astatic"},
      {"GPTQ", "gptq", "scheme = \"w4a16-g16-asym\"", "--scheme w4a16-g16-asym"},
      {"GPTQ act", "gptq",
       "scheme = \"w3a16-g16-sym-act-static\"\ndamp = 0.05\ndead = \"rtn\"\ntrue_sequential = false",
       "--scheme w3a16-g16-sym-act-static --damp 0.05 --dead rtn --no-true-sequential"},
      {"GPTQ W4A8", "gptq", "scheme = \"w4a8-g16-asym\"", "--scheme w4a8-g16-asym"},
      {"AWQ", "awq", "scheme = \"w4a16-g16-asym\"", "--scheme w4a16-g16-asym"},
      {"AWQ duo", "awq", "scheme = \"w4a16-g16-asym\"\nawq_scaling = \"duo\"\nclip = false",
       "--scheme w4a16-g16-asym --awq-scaling duo --no-clip"},
      {"SmoothQuant", "smoothquant", "alpha = 0.6", "--alpha 0.6"},
      {"SmoothQuant static", "smoothquant", "scheme = \"w8a8-astatic-bmm\"", "--scheme w8a8-astatic-bmm"},
  };
  write_tiny_model(tmp / "models/cohere", "cohere");
  std::string grid = tiny_grid_head + "\n[[model]]\nname = \"Cohere\"\npath = \"cohere\"\n";
  for (const Case& c : cases) grid += tiny_method(c.name, c.method, c.grid_options);
  put(tmp / "grid.toml", grid);
  const auto results = by_grid();
  EXPECT_EQ(results.size(), 3 * cases.size());
  expect_valid("store");
  for (const auto& [name, path] : {std::pair{"Llama", "llama"}, {"OPT", "opt"}, {"Cohere", "cohere"}}) {
    for (const Case& c : cases) {
      SCOPED_TRACE(std::string(name) + ", " + c.name);
      std::string quantize;
      if (c.name != "FP") {
        quantize = "--method " + c.method + " " + c.options;
        if (c.calibrated)
          quantize += " --calibration data/calibration.txt --samples 6 --seqlen 32 --sampling gptq --seed 3";
      }
      const auto found = results.find(std::string(name) + ", " + c.name);
      ASSERT_NE(found, results.end());
      expect_equal(found->second, by_files(std::string("models/") + path, quantize));
    }
  }
}

// A twin in memory is what `ptq inject-outliers` writes; halves and other batches.
TEST_F(Equality, TwinsAndTypes) {
  put(tmp / "grid.toml", tiny_grid_head + R"(
[[model]]
name = "twin"
of = "OPT"
inject = { at = "norm", channels = 3, scale = 64, offset = 2, seed = 5 }

[[model]]
name = "half"
path = "llama"
dtype = "bf16"
)" + tiny_method("W8A8", "w8a8") +
                             tiny_method("GPTQ", "gptq", "scheme = \"w4a16-g16-asym\"") +
                             "[axes]\nmodels = [\"twin\", \"half\"]\n");
  const auto results = by_grid("--batch-tokens 33");
  expect_valid("store");
  ASSERT_EQ(results.size(), 4u);
  run("inject-outliers models/opt twin --at norm --channels 3 --scale 64 --offset 2 --seed 5");
  const std::string gptq =
      "--method gptq --scheme w4a16-g16-asym --calibration data/calibration.txt --samples 6 "
      "--seqlen 32 --sampling gptq --seed 3";
  expect_equal(results.at("twin, W8A8"), by_files("twin", "--method w8a8"));
  expect_equal(results.at("twin, GPTQ"), by_files("twin", gptq));
  expect_equal(results.at("half, GPTQ"),
               run("eval " +
                   [&] {
                     run("quantize models/llama half --dtype bf16 " + gptq);
                     return std::string("half");
                   }() +
                   " --dtype bf16 --metrics ppl,choice --text data/text.txt --seqlen 32 --choices data/task.jsonl " +
                   "--decode-tokens 0 --json -")
                   .at("metrics"));
}

// Where models and data lie, and from where the program is started, is of no influence.
TEST_F(Equality, OutcomesDoNotDependOnPlaces) {
  const std::string cells = tiny_method("GPTQ", "gptq", "scheme = \"w4a16-g16-asym\"") + R"(
[[set]]
name = "mixed"
set = "calibration.txt:0.5+nonsense:0.5"
samples = 4
seqlen = 32

[[set]]
name = "ids"
set = "ids:some.ids"

[axes]
models = ["Llama"]
metrics = ["ppl"]

[[study]]
models = ["OPT"]
bins = 10
)";
  std::string ids;
  for (int i = 0; i < 200; ++i) ids += std::to_string(i % 250) + (i % 50 == 49 ? "\n" : " ");
  put(tmp / "data/some.ids", ids);
  put(tmp / "grid.toml", tiny_grid_head + cells);
  std::filesystem::create_directories(tmp / "elsewhere");
  std::filesystem::copy(tmp / "models", tmp / "elsewhere/m", std::filesystem::copy_options::recursive);
  std::filesystem::copy(tmp / "data", tmp / "elsewhere/d", std::filesystem::copy_options::recursive);
  run("run grid.toml --store one");
  expect_valid("one");
  const Outcome other = run_ptq(tmp.path(), "run ../grid.toml --store ../two --models m --data d --threads 1",
                                "cd " + (tmp / "elsewhere").string());
  ASSERT_EQ(other.code, 0) << other.err;
  std::size_t results = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(tmp / "one")) {
    const auto relative = std::filesystem::relative(entry.path(), tmp / "one");
    if (entry.path().extension() != ".json" || relative.string().starts_with("inputs") || relative == "store.json")
      continue;
    const std::string a = get(entry.path()), b = get(tmp / "two" / relative);
    ASSERT_FALSE(b.empty()) << relative;
    const auto outcome = [](const std::string& text) { return text.substr(0, text.find("\"run\":")); };
    EXPECT_EQ(outcome(a), outcome(b));
    ++results;
  }
  EXPECT_EQ(results, 6u);
}

// Another order of the same windows: another cell, the same texts.
TEST_F(Equality, OrdersPermuteWindows) {
  std::string grid = tiny_grid_head + tiny_method("GPTQ", "gptq", "scheme = \"w4a16-g16-asym\"") +
                     "[axes]\nmodels = [\"Llama\"]\nmetrics = [\"ppl\"]\n";
  grid.replace(grid.find("seed = 3"), 8, "seed = 3\norders = [1, 2]");
  put(tmp / "grid.toml", grid);
  run("run grid.toml --store store");
  run("collect grid.toml --store store --jsonl all.jsonl");
  std::vector<nlohmann::json> manifests;
  const std::string all = get(tmp / "all.jsonl");
  std::istringstream lines(all);
  for (std::string line; std::getline(lines, line);) {
    const nlohmann::json row = nlohmann::json::parse(line);
    if (row.contains("result")) manifests.push_back(row["result"].at("calibration"));
  }
  ASSERT_EQ(manifests.size(), 2u);
  EXPECT_NE(manifests[0].at("ids_sha256"), manifests[1].at("ids_sha256"));
  for (const char* key : {"text_sha256", "tokens", "unique_tokens", "windows"})
    EXPECT_EQ(manifests[0].at(key), manifests[1].at(key)) << key;
  EXPECT_EQ(manifests[1].at("notes").at(0), "windows permuted with seed 2");
}

// The schema is tight: whatever is added to a result or taken from it is a violation.
TEST_F(Equality, TheSchemaRefusesOtherFiles) {
  put(tmp / "grid.toml", tiny_grid_head + tiny_method("GPTQ", "gptq", "scheme = \"w4a16-g16-asym\"") +
                             "[axes]\nmodels = [\"Llama\"]\n[[study]]\nmodels = [\"OPT\"]\nbins = 10\n");
  run("run grid.toml --store store");
  if (validate("store") == 77) GTEST_SKIP() << "python3-jsonschema is not installed";
  ASSERT_EQ(validate("store"), 0);
  EXPECT_EQ(validate("models"), 1);  // no results
  for (const auto& entry : std::filesystem::recursive_directory_iterator(tmp / "store")) {
    const auto relative = std::filesystem::relative(entry.path(), tmp / "store").string();
    if (entry.path().extension() != ".json" || relative.find('/') != 2) continue;
    const std::string text = get(entry.path());
    const nlohmann::json original = nlohmann::json::parse(text);
    for (const auto& [key, value] : original.items()) {
      nlohmann::json changed = original;
      changed.erase(key);
      put(entry.path(), changed.dump());
      EXPECT_EQ(validate("store"), key == "health" ? 0 : 1) << key;
      if (!value.is_object() || key == "metrics") continue;
      changed = original;
      changed[key]["surprise"] = "x";
      put(entry.path(), changed.dump());
      EXPECT_EQ(validate("store"), 1) << key;
    }
    put(entry.path(), text);
  }
}

}  // namespace
}  // namespace ptq

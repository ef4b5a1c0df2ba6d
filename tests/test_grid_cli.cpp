// Grids as their users meet them: plan, run, status, collect, with stores that are damaged, shared, full or not there.
#include "host/files.h"
#include "program.h"
#include "tiny_grid.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <future>
#include <map>
#include <set>

namespace ptq {
namespace {

namespace fs = std::filesystem;

const fs::path grids = fs::path(PTQ_SOURCE_DIR) / "reproduce" / "grids";

std::size_t lines_of(const std::string& text) {
  return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
}

class GridCli : public testing::Test {
 protected:
  void SetUp() override {
    write_tiny_world(tmp.path());
    // Four cells and a study: FP, GPTQ and SmoothQuant of Llama, FP of OPT.
    put(tmp / "grid.toml", tiny_grid_head + tiny_method("FP", "full-precision") +
                               tiny_method("GPTQ", "gptq", "scheme = \"w4a16-g16-asym\"") +
                               tiny_method("SmoothQuant", "smoothquant") +
                               "[axes]\nmodels = [\"Llama\"]\nsets = [\"words\"]\n[[include]]\nmodels = [\"OPT\"]\n"
                               "methods = [\"FP\"]\n[[study]]\nmodels = [\"OPT\"]\nsets = [\"words\"]\nbins = 16\n");
  }

  // In a directory of its own, so that commands may run at the same time.
  Outcome ptq(const std::string& arguments, const std::string& shell = "true") {
    const fs::path own = tmp / fmt::format("stderr-{}", commands_++);
    fs::create_directories(own);
    return run_ptq(own, arguments,
                   "export OMP_WAIT_POLICY=passive; cd '" + tmp.path().string() + "'; unset PTQ_DATA; " + shell);
  }
  Outcome run(const std::string& options = "", const std::string& store = "store") {
    return ptq("run grid.toml --store " + store + " --threads 1 --progress none " + options);
  }
  void expect_run(const std::string& says, const std::string& options = "", const std::string& store = "store") {
    const Outcome r = run(options, store);
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_NE(r.out.find(says), std::string::npos) << r.out;
  }

  std::vector<fs::path> results(const std::string& store = "store") const {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(tmp / store)) {
      if (!entry.is_directory() || entry.path().filename().string().size() != 2) continue;
      for (const auto& file : fs::directory_iterator(entry.path()))
        if (file.path().extension() == ".json") files.push_back(file.path());
    }
    std::sort(files.begin(), files.end());
    return files;
  }
  // outcome_sha256 by id
  std::map<std::string, std::string> outcomes(const std::string& store = "store") const {
    std::map<std::string, std::string> all;
    for (const fs::path& file : results(store)) {
      const auto json = nlohmann::json::parse(get(file));
      all[json.at("id")] = json.at("outcome_sha256");
    }
    return all;
  }
  std::size_t temporaries(const std::string& store = "store") const {
    std::size_t count = 0;
    for (const auto& entry : fs::recursive_directory_iterator(tmp / store))
      count += entry.path().filename().string().starts_with(".ptq-");
    return count;
  }

  TemporaryDirectory tmp;
  std::atomic<int> commands_ = 0;
};

TEST_F(GridCli, Help) {
  for (const char* command : {"plan", "run", "status", "collect"}) {
    const Outcome r = ptq(std::string(command) + " --help");
    EXPECT_EQ(r.code, 0);
    EXPECT_NE(r.out.find("Example: ptq "), std::string::npos) << command;
  }
  expect_failure(ptq("run grid.toml"), 2, {"--store"});
  expect_failure(ptq("plan"), 2, {"GRID"});
  expect_failure(ptq("plan nowhere.toml"), 66, {"nowhere.toml"});
  for (const char* shard : {"0/2", "3/2", "1", "1/", "/2", "a/b", "1/2/3", "-1/2", "1/2 ", "1/99999999999999999999"})
    expect_failure(ptq(std::string("plan grid.toml --shard '") + shard + "'"), 2, {"--shard"});
  put(tmp / "typed.toml", "dtype = \"bf16\"\n" + get(tmp / "grid.toml"));
  expect_failure(ptq("plan typed.toml --dtype fp32"), 2, {"--dtype"});
  expect_failure(ptq("collect grid.toml --store store"), 2, {"--csv"});
  expect_failure(ptq("collect grid.toml --store store --csv - --jsonl -"), 2, {"--csv"});
}

// Without models, data, or a home directory.
TEST_F(GridCli, PlanOfThePaper) {
  const std::string paper = (grids / "paper.toml").string(),
                    bare = "unset HOME HF_HOME HF_HUB_CACHE PTQ_DATA PTQ_MODELS";
  const Outcome plan = ptq("plan " + paper, bare);
  EXPECT_EQ(plan.code, 0) << plan.err;
  EXPECT_EQ(plan.err, "");
  EXPECT_NE(plan.out.find("3,774 evaluation cells (15,096 numbers) and 1,254 activation studies"), std::string::npos)
      << plan.out;
  const Outcome json = ptq("plan " + paper + " --json --device cuda", bare);
  EXPECT_EQ(json.code, 0) << json.err;
  const auto parsed = nlohmann::json::parse(json.out);
  EXPECT_EQ(parsed.at("evaluations"), 3774);
  EXPECT_EQ(parsed.at("studies"), 1254);
  EXPECT_EQ(parsed.at("numbers"), 15096);
  EXPECT_EQ(parsed.at("models").size(), 6u);
  EXPECT_GT(parsed.at("seconds").get<double>(), 1e5);
  // The cells of all shards are the cells.
  const Outcome all = ptq("plan " + paper + " --cells", bare);
  EXPECT_EQ(lines_of(all.out), 3774u + 1254u);
  std::string parts;
  for (int i = 1; i <= 7; ++i) parts += ptq(fmt::format("plan {} --cells --shard {}/7", paper, i), bare).out;
  EXPECT_EQ(parts, all.out);
  // Nothing was made.
  expect_failure(ptq("status " + paper + " --store nothing", bare), 66, {"no store"});
  EXPECT_FALSE(fs::exists(tmp / "nothing"));
}

TEST_F(GridCli, PlanComputesNothing) {
  const Outcome plan = ptq("plan grid.toml --store store");
  EXPECT_EQ(plan.code, 0) << plan.err;
  EXPECT_NE(plan.out.find("tiny: 4 evaluation cells (8 numbers) and 1 activation studies"), std::string::npos)
      << plan.out;
  EXPECT_FALSE(fs::exists(tmp / "store"));
  // The model's own shape, and none where it is not there.
  EXPECT_EQ(plan.out.find("not there"), std::string::npos) << plan.out;
  EXPECT_NE(ptq("plan grid.toml --models elsewhere").out.find("not there, and the grid gives no shape"),
            std::string::npos);
}

TEST_F(GridCli, RunSaysEverythingThatIsMissing) {
  fs::remove_all(tmp / "models/opt");
  fs::remove(tmp / "models/llama/tokenizer.json");
  fs::remove(tmp / "data/task.jsonl");
  fs::remove(tmp / "data/calibration.txt");
  const Outcome r = run();
  EXPECT_EQ(r.code, 66);
  EXPECT_EQ(lines_of(r.err), 5u) << r.err;
  for (const char* word : {"missing for 3 cells: models/llama: no tokenizer", "missing for 2 cells: ", "opt",
                           "missing for 4 cells: ", "task.jsonl", "missing for 3 cells: ", "calibration.txt",
                           "run: 4 inputs are missing, see above; nothing was computed"})
    EXPECT_NE(r.err.find(word), std::string::npos) << word << " in: " << r.err;
  EXPECT_TRUE(results().empty());
  EXPECT_EQ(temporaries(), 0u);
  const Outcome status = ptq("status grid.toml --store store");
  EXPECT_EQ(status.code, 0) << status.err;
  EXPECT_NE(status.out.find("0 of 5 cells done, 0 failed, 5 missing"), std::string::npos) << status.out;

  write_tiny_world(tmp.path());
  fs::remove_all(tmp / "models/opt");
  expect_run("3 cells computed, 0 there already, 2 without their inputs", "--allow-missing");
  write_tiny_world(tmp.path());
  expect_run("2 cells computed, 3 there already");
}

// What is there but wrong is refused before any work as well.
TEST_F(GridCli, RunRefusesMalformedInputs) {
  put(tmp / "models/opt/config.json", "{\"model_type\": \"opt\"");
  expect_failure(run(), 65, {"models/opt/config.json"});
  write_tiny_world(tmp.path());
  put(tmp / "data/task.jsonl", "{\"context\": 3}\n");
  expect_failure(run(), 65, {"task.jsonl"});
  write_tiny_world(tmp.path());
  const std::string weights = get(tmp / "models/llama/model.safetensors");
  put(tmp / "models/llama/model.safetensors", weights.substr(0, 100));
  expect_failure(run(), 65, {"model.safetensors"});
  EXPECT_TRUE(results().empty());
  // A shape in the grid that is not the model's: those cells fail, the others are computed.
  write_tiny_world(tmp.path());
  std::string grid = get(tmp / "grid.toml");
  grid.replace(grid.find("path = \"opt\""), 12,
               "path = \"opt\"\nshape = { layers = 7, width = 32, ffn = 48, heads = 4, vocab = 256 }");
  put(tmp / "grid.toml", grid);
  const Outcome r = run();
  EXPECT_EQ(r.code, 65);
  EXPECT_NE(r.err.find("the grid says layers = 7, the model has 3"), std::string::npos) << r.err;
  EXPECT_EQ(results().size(), 3u);
}

TEST_F(GridCli, FinishedCellsAreNotComputedAgain) {
  expect_run("5 cells computed, 0 there already");
  EXPECT_EQ(temporaries(), 0u);
  EXPECT_FALSE(fs::exists(tmp / "store/partial"));
  std::map<fs::path, std::pair<ino_t, std::string>> before;
  for (const fs::path& file : results()) {
    struct stat status {};
    ASSERT_EQ(::stat(file.c_str(), &status), 0);
    before[file] = {status.st_ino, get(file)};
  }
  ASSERT_EQ(before.size(), 5u);
  expect_run("0 cells computed, 5 there already");
  expect_run("0 cells computed, 5 there already", "--retry --layer-seconds 0 --batch-tokens 32");
  for (const auto& [file, was] : before) {
    struct stat status {};
    ASSERT_EQ(::stat(file.c_str(), &status), 0);
    EXPECT_EQ(status.st_ino, was.first);
    EXPECT_EQ(get(file), was.second);
  }
  // One of them again, with the same outcome.
  const auto expected = outcomes();
  fs::remove(results()[2]);
  expect_run("1 cells computed, 4 there already");
  EXPECT_EQ(outcomes(), expected);
  // Other numbers of threads, other batches, layers on disk: another store with the same outcomes.
  EXPECT_EQ(ptq("run grid.toml --store other --threads 3 --progress none --layer-seconds 0 --batch-tokens 40").code, 0);
  EXPECT_EQ(outcomes("other"), expected);
  EXPECT_EQ(fs::exists(tmp / "other/partial") ? std::distance(fs::directory_iterator(tmp / "other/partial"), {}) : 0,
            0);
}

TEST_F(GridCli, ChangedInputsAreOtherCells) {
  expect_run("5 cells computed");
  write_tiny_model(tmp / "models/llama", "llama", 99);  // the same sizes
  expect_run("3 cells computed, 2 there already");
  put(tmp / "data/calibration.txt", tiny_text(77, 400));
  expect_run("3 cells computed, 2 there already");
  put(tmp / "data/text.txt", tiny_text(78, 120));
  expect_run("4 cells computed, 1 there already");
  write_tiny_model(tmp / "models/llama", "llama");
  put(tmp / "data/text.txt", tiny_text(1, 120));
  put(tmp / "data/calibration.txt", tiny_text(2, 400));
  expect_run("0 cells computed, 5 there already");
}

TEST_F(GridCli, DamagedResultsAreComputedAgain) {
  expect_run("5 cells computed");
  const auto expected = outcomes();
  std::mt19937 random(4);
  for (int round = 0; round < 6; ++round) {
    const std::vector<fs::path> files = results();
    const fs::path file = files[random() % files.size()];
    std::string text = get(file);
    if (round == 0)
      text =
          get(files[(static_cast<std::size_t>(std::find(files.begin(), files.end(), file) - files.begin()) + 1) % 5]);
    if (round == 1) text.resize(text.size() - 1);
    if (round == 2) text.clear();
    if (round > 2) text[random() % text.size()] ^= static_cast<char>(1 << random() % 8);
    put(file, text);
    const Outcome status = ptq("status grid.toml --store store");
    EXPECT_EQ(status.code, 0);
    EXPECT_EQ(lines_of(status.err), 1u) << status.err;
    EXPECT_NE(status.out.find("4 of 5 cells done"), std::string::npos) << status.out;
    const Outcome r = run();
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_EQ(lines_of(r.err), 1u) << r.err;
    EXPECT_NE(r.err.find("moved to store/aside/"), std::string::npos) << r.err;
    EXPECT_NE(r.out.find("1 cells computed, 4 there already"), std::string::npos) << r.out;
    EXPECT_EQ(outcomes(), expected);
  }
}

TEST_F(GridCli, Limit) {
  expect_run("2 cells computed, 0 there already", "--limit 2");
  expect_run("1 cells computed, 2 there already", "--limit 1");
  EXPECT_NE(ptq("status grid.toml --store store").out.find("3 of 5 cells done"), std::string::npos);
  expect_run("2 cells computed, 3 there already");
}

// A model whose numbers are no numbers: recorded, and the others are computed.
TEST_F(GridCli, FailedCellsAreRecorded) {
  write_tiny_model(tmp / "models/opt", "opt");
  {
    const auto file = open_safetensors(tmp / "models/opt/model.safetensors");
    std::map<std::string, Tensor> tensors;
    for (const auto& [name, info] : file->tensors()) tensors[name] = file->read(name, DType::f32);
    tensors.at("model.decoder.layers.1.fc1.weight").data<float>()[3] = std::numeric_limits<float>::infinity();
    write_safetensors(tmp / "models/opt/model.safetensors", tensors);
  }
  const Outcome r = run();
  EXPECT_EQ(r.code, 76) << r.err;
  EXPECT_EQ(lines_of(r.err), 3u) << r.err;
  EXPECT_NE(r.err.find("ptq: OPT, FP: "), std::string::npos) << r.err;
  EXPECT_NE(r.err.find("ptq: run: 2 of 5 cells failed, the first is OPT, "), std::string::npos) << r.err;
  EXPECT_NE(r.out.find("3 cells computed, 0 there already, 2 failed"), std::string::npos) << r.out;
  EXPECT_EQ(results().size(), 3u);
  const Outcome status = ptq("status grid.toml --store store --json");
  const auto json = nlohmann::json::parse(status.out);
  EXPECT_EQ(json.at("done"), 3);
  EXPECT_EQ(json.at("failed"), 2);
  EXPECT_EQ(json.at("missing"), 0);
  EXPECT_EQ(json.at("failures").size(), 2u);
  EXPECT_NE(ptq("status grid.toml --store store").out.find("\nfailed: OPT, FP: "), std::string::npos);
  EXPECT_NE(ptq("collect grid.toml --store store --csv -").out.find("OPT,FP,,,ppl,ppl,,,,failed,"), std::string::npos);
  // Not tried again unless asked for.
  const Outcome again = run("");
  EXPECT_EQ(again.code, 76);
  EXPECT_NE(again.out.find("0 cells computed, 3 there already, 2 that failed before"), std::string::npos) << again.out;
  EXPECT_NE(again.err.find("2 cells failed before and were not tried again"), std::string::npos) << again.err;
  EXPECT_EQ(run("--retry").code, 76);
  // Repaired: another model, so other cells; the failures of the old one are not in the way.
  write_tiny_model(tmp / "models/opt", "opt");
  expect_run("2 cells computed, 3 there already");
}

// A Hessian that cannot be factored is the user's decision.
TEST_F(GridCli, SingularHessians) {
  const std::string head = tiny_grid_head, axes = "[axes]\nmodels = [\"Llama\"]\nmetrics = [\"ppl\"]\n";
  const std::string options = "scheme = \"w4a16-g16-asym\"\ndamp = 0\n";
  // Two tokens cannot tell 32 columns apart.
  std::string one = head;
  one.replace(one.find("samples = 6\nseqlen = 32"), 23, "samples = 1\nseqlen = 2 ");
  put(tmp / "grid.toml", one + tiny_method("error", "gptq", options) +
                             tiny_method("rtn", "gptq", options + "on_singular = \"rtn\"") +
                             tiny_method("damp", "gptq", options + "on_singular = \"damp\"") + axes);
  const Outcome r = run();
  EXPECT_EQ(r.code, 76) << r.err;
  EXPECT_NE(r.out.find("2 cells computed, 0 there already, 1 failed"), std::string::npos) << r.out << r.err;
  std::map<std::string, nlohmann::json> health;
  for (const fs::path& file : results()) {
    const auto json = nlohmann::json::parse(get(file));
    health[json.at("identity").at("method").at("on_singular")] = json.at("health");
  }
  EXPECT_GT(health.at("rtn").at("summary").at("fell_back"), 0);
  EXPECT_GT(health.at("damp").at("summary").at("retried"), 0);
}

TEST_F(GridCli, TwoJobsOnTheSameCells) {
  expect_run("5 cells computed", "", "alone");
  const auto expected = outcomes("alone");
  for (int round = 0; round < 3; ++round) {
    const std::string store = fmt::format("store{}", round), options = round == 1 ? "--layer-seconds 0" : "";
    std::vector<std::future<Outcome>> jobs;
    for (int job = 0; job < 2; ++job)
      jobs.push_back(std::async(std::launch::async, [&] { return run(options, store); }));
    for (auto& job : jobs) {
      const Outcome r = job.get();
      EXPECT_EQ(r.code, 0) << r.err;
      EXPECT_EQ(r.err, "");
    }
    EXPECT_EQ(outcomes(store), expected);
    EXPECT_EQ(temporaries(store), 0u);
    expect_run("0 cells computed, 5 there already", "", store);
  }
}

// Metrics of an interrupted cell are kept by name: the grid may be edited before it goes on.
TEST_F(GridCli, MetricsOfAnInterruptedCellAreKept) {
  const std::string axes = "[axes]\nmodels = [\"Llama\"]\n";
  put(tmp / "grid.toml", tiny_grid_head + tiny_method("GPTQ", "gptq", "scheme = \"w4a16-g16-asym\"") + axes);
  expect_run("1 cells computed");
  const fs::path file = results().at(0);
  const auto expected = outcomes();
  const auto metrics = nlohmann::json::parse(get(file)).at("metrics");
  const fs::path partial = tmp / "store/partial" / file.stem();
  const auto keep = [&](const std::string& name, nlohmann::json value, bool whole = true) {
    fs::create_directories(partial);
    fs::remove(file);
    const std::string digest = sha256_hex(value.dump());
    if (!whole) value["value"] = 3.0;
    put(partial / ("metric-" + sha256_hex(name).substr(0, 16) + ".json"),
        nlohmann::json{{"sha256", digest}, {"value", value}}.dump());
  };
  nlohmann::json planted = metrics.at("ppl");
  planted["value"] = 7.0;
  // The other order of metrics in the file: the same cell.
  std::string edited = get(tmp / "grid.toml");
  edited.insert(edited.find("[[metric]]"), "[[metric]]\nname = \"other\"\ntext = \"text.txt\"\nseqlen = 16\n");
  edited += "metrics = [\"task\", \"ppl\"]\n";
  put(tmp / "grid.toml", edited);
  keep("ppl", planted);
  put(partial / "metric-0.json", "{}");
  expect_run("1 cells computed");
  const auto kept = nlohmann::json::parse(get(file)).at("metrics");
  EXPECT_EQ(kept.at("ppl"), planted);
  EXPECT_EQ(kept.at("task"), metrics.at("task"));
  EXPECT_FALSE(fs::exists(partial));
  keep("ppl", planted, false);
  expect_run("1 cells computed");
  EXPECT_EQ(outcomes(), expected);
}

// Cells that follow each other share weights, windows and statistics; computed one by one they are the same.
TEST_F(GridCli, SharingChangesNothing) {
  std::string grid = tiny_grid_head + R"(
[[model]]
name = "twin"
of = "OPT"
inject = { at = "norm", channels = 3, scale = 64 }

[[set]]
set = "nonsense"
samples = 3
seqlen = 24
)";
  grid += tiny_method("W8A8", "w8a8") + tiny_method("static", "w8a8", "scheme = \"w8a8-astatic-bmm\"") +
          tiny_method("dead", "remove-dead") + tiny_method("AWQ", "awq", "scheme = \"w4a16-g16-asym\"") +
          tiny_method("SQ", "smoothquant") + tiny_method("gone", "remove-injected") +
          "[axes]\nmodels = [\"OPT\", \"twin\"]\nmethods = [\"W8A8\", \"static\", \"dead\", \"AWQ\", \"SQ\"]\n"
          "[[include]]\nmodels = [\"twin\"]\nmethods = [\"gone\"]\n";
  put(tmp / "grid.toml", grid);
  expect_run("19 cells computed", "", "shared");
  for (int cell = 0; cell < 19; ++cell) expect_run("1 cells computed", "--limit 1", "alone");
  EXPECT_EQ(outcomes("alone"), outcomes("shared"));
  EXPECT_EQ(outcomes("alone").size(), 19u);
}

TEST_F(GridCli, ShardsMakeTheSameStore) {
  expect_run("5 cells computed", "", "alone");
  std::vector<std::future<Outcome>> jobs;
  for (int i = 1; i <= 3; ++i)
    jobs.push_back(std::async(std::launch::async, [this, i] { return run(fmt::format("--shard {}/3", i)); }));
  for (auto& job : jobs) {
    const Outcome r = job.get();
    EXPECT_EQ(r.code, 0) << r.err;
  }
  EXPECT_EQ(outcomes(), outcomes("alone"));
  expect_run("0 cells computed, 5 there already");
}

// Looking does no harm and takes none, while a job writes.
TEST_F(GridCli, StatusAndCollectOfAStoreInProgress) {
  auto job = std::async(std::launch::async, [&] { return run("--layer-seconds 0"); });
  while (!fs::exists(tmp / "store/store.json")) {
  }
  int looks = 0;
  while (job.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready || looks < 2) {
    const Outcome status = ptq("status grid.toml --store store"),
                  collect = ptq("collect grid.toml --store store --jsonl - --csv progress.csv");
    EXPECT_EQ(status.code, 0) << status.err;
    EXPECT_EQ(status.err, "");
    EXPECT_EQ(collect.code, 0) << collect.err;
    EXPECT_EQ(lines_of(collect.out), 6u);
    ++looks;
  }
  EXPECT_EQ(job.get().code, 0);
}

TEST_F(GridCli, Collect) {
  expect_run("3 cells computed", "--limit 3");
  const Outcome part = ptq("collect grid.toml --store store --csv - --jsonl part.jsonl");
  EXPECT_EQ(part.code, 0);
  EXPECT_NE(part.err.find("3 of 5 cells are there"), std::string::npos) << part.err;
  expect_run("2 cells computed, 3 there already");
  const Outcome whole = ptq("collect grid.toml --store store --csv - --jsonl whole.jsonl");
  EXPECT_EQ(whole.code, 0);
  EXPECT_EQ(whole.err, "");
  // ppl, acc and acc_norm of four cells, and a line of the study.
  EXPECT_EQ(lines_of(whole.out), 1u + 4 * 3 + 1);
  // Without all results: one line for every number that should be there, acc_norm not being known yet.
  EXPECT_TRUE(whole.out.starts_with("model,method,set,draw,metric,measure,value,stderr,n,status,id\n"));
  std::istringstream lines(whole.out);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("model,")) continue;
    EXPECT_EQ(std::count(line.begin(), line.end(), ','), 10) << line;
    EXPECT_NE(line.find(",done,"), std::string::npos) << line;
  }
  EXPECT_EQ(ptq("collect grid.toml --store store --csv -").out, whole.out);
  const std::string jsonl = get(tmp / "whole.jsonl");
  EXPECT_EQ(lines_of(jsonl), 6u);
  const auto grid = nlohmann::json::parse(jsonl.substr(0, jsonl.find('\n'))).at("grid");
  EXPECT_EQ(grid.at("name"), "tiny");
  EXPECT_EQ(grid.at("models").size(), 2u);
  expect_failure(ptq("collect grid.toml --store store --csv /nowhere/x.csv"), 73, {"/nowhere/x.csv"});
  // Models and data are not needed to look.
  fs::remove_all(tmp / "models");
  fs::remove_all(tmp / "data");
  EXPECT_EQ(ptq("collect grid.toml --store store --csv -").out, whole.out);
  EXPECT_NE(ptq("status grid.toml --store store").out.find("5 of 5 cells done, 0 failed, 0 missing"),
            std::string::npos);
}

TEST_F(GridCli, StoresThatCannotBeWritten) {
  const Outcome full = ptq("run grid.toml --store store --threads 1 --progress none", "ulimit -f 1");
  expect_failure(full, 74, {"store"});
  EXPECT_TRUE(results().empty());
  EXPECT_EQ(temporaries(), 0u);
  expect_run("5 cells computed");
  const auto expected = outcomes();
  fs::remove(results()[0]);
  expect_failure(ptq("run grid.toml --store store --threads 1 --progress none", "ulimit -f 1"), 74, {"store"});
  expect_run("1 cells computed, 4 there already");
  EXPECT_EQ(outcomes(), expected);
  expect_failure(run("", "grid.toml"), 65, {"not a store"});
  expect_failure(run("", "data"), 65, {"not a store"});
  expect_failure(run("", "grid.toml/store"), 73, {"grid.toml/store"});
  expect_failure(run("", "/proc/store"), 73, {"/proc/store"});
}

}  // namespace
}  // namespace ptq

// Perplexity and multiple choice of real models against lm-evaluation-harness 0.4.9.2 and transformers 4.57.6, fp32.
// Tolerances are those of golden/eval/README.md. stories260K comes from $PTQ_MODELS; $PTQ_SMOLLM2 names a directory
// with SmolLM2-135M-Instruct in Hugging Face layout (reproduce/smollm2.py makes it).
#include "data/calibration.h"
#include "data/ids.h"
#include "data/jsonl.h"
#include "device.h"
#include "eval/multiple_choice.h"
#include "eval/perplexity.h"
#include "eval/requests.h"
#include "golden_path.h"
#include "host/files.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

namespace ptq {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<std::int32_t>;

// A model with its tokenizer, loaded once per program.
struct Loaded {
  std::unique_ptr<Ops> ops = make_test_ops();
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<Transformer> model;

  explicit Loaded(const fs::path& directory) : tokenizer(load_tokenizer(directory)) {
    model = std::make_unique<Transformer>(std::make_shared<ModelFiles>(ModelFiles::open(directory)), *ops, DType::f32);
    model->load_all();
  }

  static const Loaded& of(const fs::path& directory) {
    static std::map<fs::path, std::unique_ptr<Loaded>> loaded;
    auto& entry = loaded[directory];
    if (!entry) entry = std::make_unique<Loaded>(directory);
    return *entry;
  }
};

std::vector<nlohmann::json> records(const fs::path& file) {
  std::vector<nlohmann::json> out;
  for_each_record(file, "golden", [&](const nlohmann::json& record, const std::string&) {
    out.push_back(record);
    return true;
  });
  return out;
}

void check_perplexity(const Loaded& m, const fs::path& golden, const std::string& name, const fs::path& data) {
  const nlohmann::json expected = read_json(golden / (name + ".wikitext2.512.json"), "golden");
  const Ids ids = text_ids(*m.tokenizer, read_wikitext2(data).text);
  const Perplexity p =
      perplexity(TransformerScorer(*m.model), ids, {.seqlen = 512, .windows = expected["windows"].get<std::int64_t>()});
  EXPECT_EQ(p.tokens, expected["tokens"].get<std::int64_t>());
  EXPECT_EQ(p.ids_sha256, expected["ids_sha256"].get<std::string>());
  const double ppl = expected["ppl"].get<double>();
  EXPECT_NEAR(p.ppl.value, ppl, 1e-4 * ppl);
  const auto windows = expected["window_mean_nll"].get<std::vector<double>>();
  ASSERT_EQ(p.window_nll.size(), windows.size());
  double worst = 0;
  for (std::size_t i = 0; i < windows.size(); ++i) {
    EXPECT_NEAR(p.window_nll[i], windows[i], 1e-4) << "window " << i;
    worst = std::max(worst, std::fabs(p.window_nll[i] - windows[i]));
  }
  fmt::print("{}: perplexity {:.6f} +- {:.3f}, reference {:.6f}; largest window difference {:.1e}\n", name, p.ppl.value,
             p.ppl.stderr_, ppl, worst);
}

// NLL of every token of the first window.
void check_tokens(const Loaded& m, const fs::path& tsv, const fs::path& data) {
  Ids ids = text_ids(*m.tokenizer, read_wikitext2(data).text);
  ids.resize(512);
  Batch batch;
  batch.append(ids);
  std::vector<Target> targets;
  for (std::int32_t i = 1; i < 512; ++i) targets.push_back({i - 1, ids[static_cast<std::size_t>(i)]});
  const std::vector<double> logprobs = TransformerScorer(*m.model).logprobs(batch, targets);
  std::ifstream in(tsv);
  std::string header;
  std::getline(in, header);
  std::int32_t position = 0, id = 0, top = 0, rows = 0;
  double nll = 0;
  while (in >> position >> id >> nll >> top) {
    const auto i = static_cast<std::size_t>(position);
    ASSERT_LT(i, ids.size());
    EXPECT_EQ(ids[i], id);
    EXPECT_NEAR(-logprobs[i - 1], nll, 1e-3) << "position " << position;
    ++rows;
  }
  EXPECT_EQ(rows, 511);
}

void check_ids(const Loaded& m, const Task& task, const std::vector<nlohmann::json>& expected, bool bos) {
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const ChoiceDocument& d = task.documents[i];
    EXPECT_EQ(d.contexts, expected[i]["ctx"].get<std::vector<std::string>>()) << "document " << i;
    EXPECT_EQ(d.continuations, expected[i]["cont"].get<std::vector<std::string>>()) << "document " << i;
    for (std::size_t c = 0; c < d.contexts.size(); ++c) {
      const EncodedPair pair = encode_pair(*m.tokenizer, d.contexts[c], d.continuations[c], bos, "golden");
      EXPECT_EQ(pair.context, expected[i]["ctx_ids"][c].get<Ids>()) << "document " << i << " choice " << c;
      EXPECT_EQ(pair.continuation, expected[i]["cont_ids"][c].get<Ids>()) << "document " << i << " choice " << c;
    }
  }
}

// How often a prediction differs although the reference's margin is firm; `loose` counts the others.
int wrong_predictions(const std::vector<ChoiceItem>& items, int ChoiceItem::*prediction,
                      const std::vector<nlohmann::json>& expected, const char* key, const char* margin, double firm,
                      int& loose) {
  int wrong = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (expected[i][margin].get<double>() <= firm)
      ++loose;
    else if (items[i].*prediction != expected[i][key].get<int>())
      ++wrong;
  }
  return wrong;
}

void check_metric(const Metric& metric, const nlohmann::json& expected, int loose) {
  EXPECT_EQ(metric.n, expected["n"].get<std::int64_t>());
  EXPECT_NEAR(metric.value, expected["mean"].get<double>(), 1e-9 + loose / static_cast<double>(metric.n));
  if (loose == 0) {
    EXPECT_NEAR(metric.stderr_, expected["stderr"].get<double>(), 1e-9);
  }
}

void check_task(const Loaded& m, const fs::path& golden, const std::string& model, const std::string& name, bool bos,
                const fs::path& data) {
  const std::vector<nlohmann::json> expected = records(golden / "lm_eval" / (model + "." + name + ".jsonl"));
  const Task task = read_task(name, data, static_cast<std::int64_t>(expected.size()));
  ASSERT_EQ(task.documents.size(), expected.size());
  check_ids(m, task, records(golden / "lm_eval" / (model + "." + name + ".ids.jsonl")), bos);

  const ChoiceResult r =
      multiple_choice(TransformerScorer(*m.model), *m.tokenizer, task, {.bos = bos, .max_length = 2048});
  double worst = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const ChoiceItem& item = r.items[i];
    const nlohmann::json& e = expected[i];
    EXPECT_EQ(item.doc_id, e["doc_id"].get<std::int64_t>());
    EXPECT_EQ(item.n_ctx, e["n_ctx"].get<std::vector<std::int64_t>>()) << i;
    EXPECT_EQ(item.n_cont, e["n_cont"].get<std::vector<std::int64_t>>()) << i;
    EXPECT_EQ(item.gold, e["gold"].get<int>()) << i;
    if (task.normalized) {
      EXPECT_EQ(item.chars, e["chars"].get<std::vector<std::int64_t>>()) << i;
    }
    const auto ll = e["ll"].get<std::vector<double>>();
    ASSERT_EQ(item.ll.size(), ll.size());
    for (std::size_t c = 0; c < ll.size(); ++c) {
      EXPECT_NEAR(item.ll[c], ll[c], 1e-3 + 1e-5 * std::fabs(ll[c])) << "document " << i << " choice " << c;
      worst = std::max(worst, std::fabs(item.ll[c] - ll[c]));
    }
  }
  const nlohmann::json totals = read_json(golden / "lm_eval" / "totals.json", "golden")[model][name]["part"];
  int loose = 0;
  EXPECT_EQ(wrong_predictions(r.items, &ChoiceItem::pred, expected, "pred", "margin", 2e-3, loose), 0);
  check_metric(r.acc, totals["acc"], loose);
  if (task.normalized) {
    int loose_norm = 0;
    EXPECT_EQ(
        wrong_predictions(r.items, &ChoiceItem::pred_norm, expected, "pred_norm", "margin_norm", 1e-4, loose_norm), 0);
    check_metric(r.acc_norm, totals["acc_norm"], loose_norm);
  }
  std::int64_t unshared = 0;
  for (const ChoiceItem& item : r.items) {
    for (std::size_t c = 0; c < item.ll.size(); ++c) unshared += item.n_ctx[c] + item.n_cont[c] - 1;
  }
  fmt::print("{} {}: acc {:.4f}, largest ll difference {:.1e}, {} of {} tokens run\n", model, name, r.acc.value, worst,
             r.tokens_run, unshared);
}

void check_tasks(const Loaded& m, const fs::path& golden, const std::string& model, bool bos, const fs::path& data) {
  for (const std::string& name : known_tasks()) check_task(m, golden, model, name, bos, data);
}

TEST(Stories260K, Perplexity) {
  PTQ_NEED(golden, "PTQ_GOLDEN", "eval");
  PTQ_NEED(data, "PTQ_DATA", "");
  PTQ_NEED(model, "PTQ_MODELS", "stories260K");
  check_perplexity(Loaded::of(model), golden, "stories260K", data);
  check_tokens(Loaded::of(model), golden / "stories260K.512.window0.tsv", data);
}

TEST(Stories260K, TasksWithoutBos) {
  PTQ_NEED(golden, "PTQ_GOLDEN", "eval");
  PTQ_NEED(data, "PTQ_DATA", "");
  PTQ_NEED(model, "PTQ_MODELS", "stories260K");
  check_tasks(Loaded::of(model), golden, "stories260K.nobos", false, data);
}

TEST(Stories260K, TasksWithBos) {
  PTQ_NEED(golden, "PTQ_GOLDEN", "eval");
  PTQ_NEED(data, "PTQ_DATA", "");
  PTQ_NEED(model, "PTQ_MODELS", "stories260K");
  check_tasks(Loaded::of(model), golden, "stories260K.bos", true, data);
}

TEST(SmolLM2, Perplexity) {
  PTQ_NEED(golden, "PTQ_GOLDEN", "eval");
  PTQ_NEED(data, "PTQ_DATA", "");
  PTQ_NEED(model, "PTQ_SMOLLM2", "");
  check_perplexity(Loaded::of(model), golden, "smollm2", data);
  check_tokens(Loaded::of(model), golden / "smollm2.512.window0.tsv", data);
}

TEST(SmolLM2, Tasks) {
  PTQ_NEED(golden, "PTQ_GOLDEN", "eval");
  PTQ_NEED(data, "PTQ_DATA", "");
  PTQ_NEED(model, "PTQ_SMOLLM2", "");
  check_tasks(Loaded::of(model), golden, "smollm2", false, data);
}

// The windows that the reference quantizers were calibrated and measured on.
TEST(SmolLM2, CalibrationIds) {
  PTQ_NEED(golden, "PTQ_GOLDEN", "quant/smollm2_regauged/tokens.json");
  PTQ_NEED(data, "PTQ_DATA", "");
  PTQ_NEED(model, "PTQ_SMOLLM2", "");
  const nlohmann::json expected = read_json(golden, "golden");
  const std::unique_ptr<Tokenizer> tokenizer = load_tokenizer(model);
  CalibrationRequest request{.set = "c4", .samples = 16, .seqlen = 512, .data = data};
  EXPECT_EQ(build_calibration(request, tokenizer.get()).windows, expected["c4"].get<std::vector<Ids>>());

  const Ids ids = text_ids(*tokenizer, read_wikitext2(data).text);
  Ids all;
  for (const Ids& window : expected["wiki40"].get<std::vector<Ids>>())
    all.insert(all.end(), window.begin(), window.end());
  EXPECT_TRUE(std::equal(all.begin(), all.end(), ids.begin()));

  // Drawn with CPython's random and the tokenizers library from the same thousand documents (spec A.8).
  request.sampling = Sampling::gptq;
  EXPECT_EQ(build_calibration(request, tokenizer.get()).manifest.ids_sha256,
            "10420dc28fc5fa1de329349d013fc56bc3b23b3c75857c838b37eb817998ac33");
}

}  // namespace
}  // namespace ptq

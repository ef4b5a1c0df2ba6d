#include "cli/model_options.h"
#include "cli/progress.h"
#include "data/corpora.h"
#include "eval/divergence.h"
#include "eval/generate.h"
#include "eval/multiple_choice.h"
#include "eval/perplexity.h"
#include "host/files.h"
#include "host/range.h"

#include <nlohmann/json.hpp>

#include <chrono>
#include <variant>

namespace ptq {

namespace {

struct Options {
  ModelOptions model;
  std::string text, choices, against, items, json;
  std::vector<std::string> metrics{"ppl"};
  std::int64_t seqlen = 2048, windows = -1, limit = -1, batch_tokens = 4096, max_length = 0, decode_tokens = 32;
  bool bos = false;
};

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// One metric with its input, which is read before the model is loaded, so that a missing file costs nothing.
struct Measurement {
  std::string metric;
  std::variant<Text, Task> input;
};

std::vector<Measurement> prepare(const Options& o, const GlobalOptions& global) {
  const auto known = known_tasks();
  const auto asked = [&](const char* metric) { return std::find(o.metrics.begin(), o.metrics.end(), metric); };
  require((asked("kld") != o.metrics.end()) == !o.against.empty(), Exit::usage,
          "eval: the metric kld and --against MODEL go together");
  std::vector<Measurement> measurements;
  for (const std::string& m : o.metrics) {
    const bool windows = m == "ppl" || m == "kld";
    require(windows || m == "choice" || std::find(known.begin(), known.end(), m) != known.end(), Exit::usage,
            "eval: metric '{}' is not known; one of ppl, kld, choice, {}", m, fmt::join(known, ", "));
    require(m != "choice" || !o.choices.empty(), Exit::usage, "eval: the metric choice needs --choices FILE.jsonl");
    const auto data = global.data_directory();
    if (windows)
      measurements.push_back({m, o.text.empty() ? read_wikitext2(data) : read_text(o.text)});
    else
      measurements.push_back({m, read_task(m == "choice" ? o.choices : m, data, o.limit)});
  }
  return measurements;
}

struct Session {
  const Options& o;
  const GlobalOptions& global;
  const Transformer& model;
  const Transformer* against;  // kld
  const Tokenizer& tokenizer;
  nlohmann::ordered_json metrics, timing, cost;
  std::string items;

  void measure(const Measurement& m) {
    const Range range(model.ops(), "{}", m.metric);
    Progress bar(progress_mode(global.progress));
    const ProgressCallback progress = [&](std::int64_t done, std::int64_t total) { bar.update(m.metric, done, total); };
    const auto start = Clock::now();
    if (const Text* text = std::get_if<Text>(&m.input)) {
      const std::vector<std::int32_t> ids = text_ids(tokenizer, text->text);
      const PerplexityOptions options{
          .seqlen = o.seqlen, .windows = o.windows, .batch_tokens = o.batch_tokens, .progress = progress};
      if (m.metric == "kld") {
        const Divergence r = divergence(model, *against, ids, options);
        timing[m.metric] = seconds_since(start);
        bar.finish();
        report(r);
      } else {
        const Perplexity r = perplexity(TransformerScorer(model), ids, options);
        timing[m.metric] = seconds_since(start);
        bar.finish();
        report(r, *text);
      }
    } else {
      const ChoiceResult r = multiple_choice(
          TransformerScorer(model), tokenizer, std::get<Task>(m.input),
          {.bos = o.bos, .max_length = o.max_length, .batch_tokens = o.batch_tokens, .progress = progress});
      timing[m.metric] = seconds_since(start);
      bar.finish();
      report(r, m.metric);
    }
  }

  void report(const Perplexity& r, const Text& text) {
    metrics["ppl"] = perplexity_json(r);
    metrics["ppl"]["text"] = {{"name", text.source.name}, {"sha256", text.source.sha256}};
    fmt::print("{:<14} {:.4f} +- {:.4f}  ({} of {} windows of {} tokens of {}, {:.1f} tokens/s)\n", "ppl", r.ppl.value,
               r.ppl.stderr_, r.ppl.n, r.tokens / r.seqlen, r.seqlen, text.source.name,
               static_cast<double>(r.ppl.n * r.seqlen) / timing["ppl"].get<double>());
  }

  void report(const Divergence& r) {
    metrics["kld"] = divergence_json(r);
    fmt::print("{:<14} {:.6f} +- {:.6f}  (p99 {:.4f}, top-1 agreement {:.2f} %, {} tokens)\n", "kld", r.kld.value,
               r.kld.stderr_, r.p99, 100.0 * r.top1_agreement, r.tokens);
  }

  void report(const ChoiceResult& r, const std::string& name) {
    metrics[name] = choice_json(r);
    items += items_jsonl(r);
    fmt::print("{:<14} acc {:.4f} +- {:.4f}", name, r.acc.value, r.acc.stderr_);
    if (r.normalized) fmt::print("  acc_norm {:.4f} +- {:.4f}", r.acc_norm.value, r.acc_norm.stderr_);
    fmt::print("  ({} documents, {:.1f} s)\n", r.items.size(), timing[name].get<double>());
  }

  // What quantization is for: memory and speed.
  void report_cost() {
    cost = cost_json(model);
    fmt::print("{:<14} {:.2f} bits per weight, weights {:.1f} MiB", "memory", cost["bits_per_weight"].get<double>(),
               static_cast<double>(model.weight_bytes()) / (1 << 20));
    if (cost.contains("scheme_bits_per_weight"))
      fmt::print(" (the scheme takes {:.2f} bits)", cost["scheme_bits_per_weight"].get<double>());
    if (o.decode_tokens > 0) {
      const double rate = measure_decode_rate(model, o.decode_tokens);
      cost["decode_tokens_per_second"] = rate;
      fmt::print("; decoding {:.1f} tokens/s", rate);
    }
    fmt::print("\n");
  }
};

void run(const Options& o, const GlobalOptions& global) {
  const auto measurements = prepare(o, global);
  const auto directory = resolve_model(o.model.model);
  const auto reference = o.against.empty() ? std::filesystem::path() : resolve_model(o.against);
  const auto ops = global.open_device();
  const auto tokenizer = load_tokenizer(directory);
  const auto start = Clock::now();
  RunSize size{.tokens = std::max(o.batch_tokens, o.seqlen), .logits = 1, .cached = o.decode_tokens + 1};
  if (!reference.empty()) {
    size.share = 0.5;
    size.logits = std::min(o.seqlen, divergence_rows(read_config(reference).vocab));
  }
  const auto loaded = load_model(directory, o.model.products, *ops, global.compute_dtype(), size);
  const Transformer& model = *loaded;
  std::unique_ptr<Transformer> against;
  size.share = 1.0;
  if (!reference.empty()) against = load_model(reference, o.model.products, *ops, global.compute_dtype(), size);

  Session session{o, global, model, against.get(), *tokenizer, {}, {}, {}, {}};
  session.timing["load"] = seconds_since(start);
  for (const Measurement& m : measurements) session.measure(m);
  session.report_cost();

  if (!o.items.empty()) write_file(o.items, session.items);
  if (o.json.empty()) return;
  const nlohmann::ordered_json report = {{"metrics", session.metrics},
                                         {"timing", session.timing},
                                         {"cost", session.cost},
                                         {"provenance",
                                          {{"model", directory.string()},
                                           {"family", model.config().family},
                                           {"dtype", global.dtype},
                                           {"activations", activations_name(model)},
                                           {"products", o.model.products},
                                           {"against", reference.string()},
                                           {"weight_bytes", model.weight_bytes()},
                                           {"peak_memory_bytes", peak_memory()},
                                           {"tokenizer", tokenizer->description()},
                                           {"device", ops->description()},
                                           {"bos", o.bos},
                                           {"limit", o.limit}}}};
  const std::string text = report.dump(1) + "\n";
  if (o.json == "-")
    fmt::print("{}", text);
  else
    write_file(o.json, text);
}

}  // namespace

void add_eval(CLI::App& app, GlobalOptions& global) {
  auto* command =
      app.add_subcommand("eval", "Perplexity, divergence and multiple-choice accuracy with standard errors");
  command->footer(
      "Metrics: ppl (WikiText-2 test as in the GPTQ paper, or --text), kld (mean KL divergence from the model "
      "--against "
      "on the same windows), arc_challenge, piqa, winogrande\n"
      "(lm-evaluation-harness 0.4.2 semantics), choice (--choices FILE, one JSON object a line with context, choices, "
      "gold,\n"
      "or with WinoGrande's sentence, option1, option2, answer).\n"
      "Example: ptq eval models/SmolLM2-135M --metrics ppl,piqa --seqlen 2048 --limit 100 --json result.json");
  auto o = std::make_shared<Options>();
  add_model_options(*command, o->model);
  command->add_option("--metrics", o->metrics, "comma-separated metrics")->delimiter(',')->capture_default_str();
  command->add_option("--text", o->text, "text file for ppl and kld instead of WikiText-2");
  command->add_option("--against", o->against, "kld: the model before quantization; both are then in memory");
  command->add_option("--seqlen", o->seqlen, "tokens of a perplexity window")
      ->check(CLI::Range(std::int64_t{2}, std::int64_t{1} << 20))
      ->capture_default_str();
  command->add_option("--windows", o->windows, "perplexity windows; -1: all")->capture_default_str();
  command->add_option("--choices", o->choices, "JSONL file of the metric choice");
  command->add_option("--limit", o->limit, "first documents of each task; -1: all")->capture_default_str();
  command->add_flag("--bos", o->bos, "put the tokenizer's BOS before every context (harness 0.4.9.2 and later)");
  command->add_option("--max-length", o->max_length, "longest input of a task; 0: the model's positions")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 20))
      ->capture_default_str();
  command->add_option("--batch-tokens", o->batch_tokens, "tokens of a forward pass; no effect on results")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 24))
      ->capture_default_str();
  command->add_option("--decode-tokens", o->decode_tokens, "measure decoding speed over so many tokens; 0: do not")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 16))
      ->capture_default_str();
  command->add_option("--items", o->items, "write every document's scores here, JSON lines");
  command->add_option("--json", o->json, "write metrics, timing and provenance here; - for standard output");
  command->callback([o, &global] { run(*o, global); });
}

}  // namespace ptq

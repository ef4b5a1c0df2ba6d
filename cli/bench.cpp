// `ptq bench`: verifies every operation against the CPU backend, then times it, cold caches, interleaved with the
// yardstick where there is one (docs/profiling.md).
#include "cli/bench_report.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "host/output_file.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <optional>

namespace ptq {

namespace {

struct Options {
  std::string filter, csv;
  BenchSizes sizes;
  bool list = false, json = false, verify = true;
  double budget = 0.5;  // seconds of a case
};

std::vector<BenchCase> chosen(const std::vector<BenchCase>& all, const Options& o) {
  const bool steps = o.filter.starts_with("steps");  // slow on purpose: only when asked for
  std::vector<BenchCase> cases;
  std::ranges::copy_if(all, std::back_inserter(cases), [&](const BenchCase& c) {
    return (c.op + " | " + c.shape).find(o.filter) != std::string::npos && (c.step.empty() || steps || o.list);
  });
  require(!cases.empty(), Exit::usage, "--filter {}: no case has this in its name; see ptq bench --list", o.filter);
  return cases;
}

// What GlobalOptions::open_yardstick has for an operation, and which operation that is there: codes of 4 and 8 bits
// compete with the products that they are to replace.
struct Yardstick {
  const char *op, *name, *runs;
};
constexpr Yardstick yardsticks[] = {
    {"linear bf16", "cublasLt", "linear bf16"},
    {"linear f16", "cublasLt", "linear f16"},
    {"linear f32", "cublasLt", "linear f32"},
    {"linear_s8", "cublasLt s8 and a kernel for the scales", "linear_s8"},
    {"linear u4 bf16", "cublasLt of bf16 weights", "linear bf16"},
    {"linear u8 bf16", "cublasLt of bf16 weights", "linear bf16"},
    {"linear_few bf16", "cublasLt", "linear_few bf16"},
    {"linear_few u4 bf16", "cublasLt of bf16 weights", "linear_few bf16"},
    {"linear_few u8 bf16", "cublasLt of bf16 weights", "linear_few bf16"},
    {"gram bf16", "cublasLt, both triangles", "gram bf16"},
    {"gram f32", "cublasSsyrk", "gram f32"},
    {"factor_inverse f32", "cuSOLVER potrf, potri, potrf", "factor_inverse f32"},
    {"gptq_sweep w4 g128", "gptq/1-naive", "gptq_sweep w4 g128"},
};

BenchOpponent opponent_of(const BenchCase& c, Ops* yardstick, const std::vector<BenchCase>& all) {
  const auto of_op = std::ranges::find_if(yardsticks, [&](const Yardstick& y) { return c.op == y.op; });
  if (yardstick == nullptr || of_op == std::end(yardsticks)) return {};
  // The same shape, but for the group size of codes behind it.
  const auto there = std::ranges::find_if(all, [&](const BenchCase& other) {
    return other.op == of_op->runs && (c.shape + " ").starts_with(other.shape + " ");
  });
  check(there != all.end(), "bench: no case {} of shape {}", of_op->runs, c.shape);
  return {yardstick, &*there, of_op->name};
}

// Null, with a line on standard error, if it cannot be had: the own kernels are timed all the same.
std::unique_ptr<Ops> open_yardstick(const GlobalOptions& global) {
  if (global.gemm != "own") return nullptr;  // the yardstick itself is measured
  try {
    return global.open_yardstick();
  } catch (const Error& e) {
    fmt::print(stderr, "ptq: no yardstick: {}\n", e.what());
    return nullptr;
  }
}

void run(const Options& o, const GlobalOptions& global) {
  const std::vector<BenchCase> all = bench_cases(o.sizes), cases = chosen(all, o);
  if (o.list) {
    for (const BenchCase& c : cases) fmt::print("{} | {}\n", c.op, c.shape);
    return;
  }
  std::optional<OutputFile> csv;  // before the work, so that a wrong path costs nothing
  if (!o.csv.empty()) csv.emplace(o.csv);
  if (!cases[0].step.empty()) {  // a device without them also tells now
    require(global.gemm == "own", Exit::usage, "--gemm {}: steps are compared with own kernels", global.gemm);
    global.open_device(cases[0].step);
  }
  const auto ops = global.open_device(), yardstick = open_yardstick(global);
  const auto reference = o.verify ? make_cpu_ops(global.threads) : nullptr;
  const double copy = copy_rate(*ops, o.sizes.shrink);
  BenchReport report(ops->description(), copy);
  Progress progress(progress_mode(global.progress));
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const BenchCase& c = cases[i];
    progress.update(c.op + " | " + c.shape, static_cast<std::int64_t>(i), static_cast<std::int64_t>(cases.size()));
    const auto rung = c.step.empty() ? nullptr : global.open_device(c.step);
    const BenchOpponent opponent =
        rung ? BenchOpponent{ops.get(), &c, "production kernel"} : opponent_of(c, yardstick.get(), all);
    report.add(measure(c, rung ? *rung : *ops, opponent, reference.get(), o.budget));
  }
  progress.finish();
  if (o.json) {
    fmt::print("{}\n", report.json().dump(2));
  } else {
    fmt::print("{}; copies at {:.1f} GB/s\n", ops->description(), copy);
    report.print_table();
  }
  if (csv) {
    csv->write(report.csv(), Size(0));
    csv->publish();
  }
}

}  // namespace

void add_bench(CLI::App& app, GlobalOptions& global) {
  auto* command = app.add_subcommand("bench", "Verifies and times every operation at the shapes of the paper's models");
  command->footer(
      "x yardstick: how many times our time NVIDIA's libraries take (--device cuda), or a step's production kernel\n"
      "(--filter steps). Whole shapes are sized for a GPU: on a CPU take --shrink 8 or one operation.\n"
      "Example: ptq bench --device cuda --filter \"linear bf16\" --csv bench.csv");
  auto o = std::make_shared<Options>();
  command->add_option("--filter", o->filter,
                      "only cases whose \"op | shape\" contains this; steps: the teaching ladder");
  command->add_flag("--list", o->list, "print the cases and stop");
  command->add_option("--tokens", o->sizes.tokens, "rows of activations")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 17))
      ->capture_default_str();
  command->add_option("--shrink", o->sizes.shrink, "divide widths and vocabularies by this (32: tiny)")
      ->check(CLI::IsMember({1, 2, 4, 8, 16, 32}))
      ->capture_default_str();
  command->add_option("--seconds", o->budget, "time for the runs of a case, at least five runs")
      ->check(CLI::Range(0.0, 3600.0))
      ->capture_default_str();
  command->add_flag("--verify,!--no-verify", o->verify, "compare with the CPU backend first");
  command->add_option("--csv", o->csv, "write the figures to this file");
  command->add_flag("--json", o->json, "JSON on standard output");
  command->callback([o, &global] { run(*o, global); });
}

}  // namespace ptq

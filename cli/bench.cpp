// `ptq bench`: verifies every operation against the CPU backend, then times it, cold caches, interleaved with the
// yardstick where there is one (docs/performance.md).
#include "cli/bench_cases.h"
#include "cli/options.h"
#include "host/files.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>

namespace ptq {

namespace {

struct Options {
  std::string filter, csv;
  BenchSizes sizes;
  bool list = false, json = false, verify = true;
  double budget = 0.5;  // seconds of a case
};

struct Row {
  const BenchCase* test;
  double seconds = 0, spread = 0;  // median, half the distance between quartiles
  double against = 0;              // yardstick's time over ours, median of pairs; 0: none
  double error = 0;                // relative rms, NaN if it was not verified
};

double quantile(std::vector<double> x, double q) {
  std::sort(x.begin(), x.end());
  return x[static_cast<std::size_t>(q * static_cast<double>(x.size() - 1) + 0.5)];
}

double value_of(const Tensor& t, std::int64_t i) {
  switch (t.dtype()) {
    case DType::f32:
      return t.data<float>()[i];
    case DType::bf16:
      return to_float(t.data<bf16>()[i]);
    case DType::f16:
      return to_float(t.data<f16>()[i]);
    case DType::u8:
      return t.data<std::uint8_t>()[i];
    case DType::i8:
      return t.data<std::int8_t>()[i];
    case DType::i64:
      return static_cast<double>(t.data<std::int64_t>()[i]);
    default:
      fail(Exit::internal, "bench: a result of {}", name_of(t.dtype()));
  }
}

// rms(a - b) / rms(b); NaN if either holds one.
double difference(const Tensor& a, const Tensor& b) {
  check(a.shape() == b.shape() && a.dtype() == b.dtype(), "bench: results {} and {}", to_string(a.shape()),
        to_string(b.shape()));
  double error = 0.0, size = 0.0;
  for (std::int64_t i = 0; i < a.numel(); ++i) {
    const double x = value_of(a, i), y = value_of(b, i);
    error += (x - y) * (x - y);
    size += y * y;
  }
  return error == 0.0 ? 0.0 : std::sqrt(error / size);
}

double verify(const BenchCase& test, const BenchRun& own, Ops& reference) {
  own.run();
  const Tensor result = own.result();
  const BenchRun right = test.prepare(reference);
  right.run();
  const double error = difference(result, right.result());
  require(error <= test.tolerance, Exit::numerics,
          "bench: {} ({}): differs from the CPU backend by {:.3g}, allowed {:.3g}", test.op, test.shape, error,
          test.tolerance);
  return error;
}

double time_once(Ops& ops, const BenchRun& work) {
  ops.evict_caches();
  ops.synchronize();
  return ops.seconds(work.run);
}

Row measure(const BenchCase& test, Ops& ops, Ops* yardstick, Ops* reference, double budget) {
  constexpr std::size_t fewest = 5, most = 50;
  Row row{&test, 0, 0, 0, std::nan("")};
  const BenchRun own = test.prepare(ops);
  if (reference != nullptr) row.error = verify(test, own, *reference);
  const BenchRun other = yardstick != nullptr ? test.prepare(*yardstick) : BenchRun{};
  time_once(ops, own);  // warm up
  if (yardstick != nullptr) time_once(*yardstick, other);
  std::vector<double> seconds, ratios;
  for (double spent = 0; seconds.size() < fewest || (spent < budget && seconds.size() < most);) {
    seconds.push_back(time_once(ops, own));
    spent += seconds.back();
    if (yardstick == nullptr) continue;
    const double theirs = time_once(*yardstick, other);
    ratios.push_back(theirs / seconds.back());
    spent += theirs;
  }
  row.seconds = quantile(seconds, 0.5);
  row.spread = (quantile(seconds, 0.75) - quantile(seconds, 0.25)) / 2;
  if (yardstick != nullptr) row.against = quantile(ratios, 0.5);
  return row;
}

// What a device can do at most, by its name (datasheets: dense, without sparsity). 0: not known.
double peak_tflops(const std::string& device, DType arithmetic) {
  struct Peak {
    const char* name;
    double half, s8, f32;
  };
  constexpr Peak peaks[] = {{"H200", 989, 1979, 67},  {"H100 PCIe", 756, 1513, 51}, {"H100", 989, 1979, 67},
                            {"A100", 312, 624, 19.5}, {"L40", 181, 362, 90.5},      {"L4", 121, 242, 30.3}};
  for (const Peak& p : peaks) {
    if (device.find(p.name) == std::string::npos) continue;
    return arithmetic == DType::i8 ? p.s8 : arithmetic == DType::f32 ? p.f32 : p.half;
  }
  return 0;
}

// GB/s of gathering all rows of 64 MiB in order: a copy.
double copy_rate(Ops& ops, std::int64_t shrink) {
  const std::int64_t rows = 8192 / shrink, columns = 2048;
  const Tensor x = ops.to_device(Tensor::zeros(DType::f32, {rows, columns})),
               y = ops.empty(DType::f32, {rows, columns}), order = Tensor::empty(DType::i32, {rows});
  for (std::int64_t r = 0; r < rows; ++r) order.data<std::int32_t>()[r] = static_cast<std::int32_t>(r);
  const Tensor index = ops.to_device(order);
  const BenchRun copy{[&] { ops.gather_rows(y, x, index); }, {}};
  time_once(ops, copy);
  std::vector<double> seconds;
  for (int i = 0; i < 9; ++i) seconds.push_back(time_once(ops, copy));
  return 2.0 * static_cast<double>(x.bytes()) / quantile(seconds, 0.5) / 1e9;
}

class Report {
 public:
  Report(std::string device, double copy) : device_(std::move(device)), copy_(copy) {}

  void add(const Row& row) {
    const double tflops = row.test->flops / row.seconds / 1e12;
    double& best = ceiling_[row.test->arithmetic];
    best = std::max(best, std::max(tflops, tflops * (row.against > 0 ? 1 / row.against : 0)));
    rows_.push_back(row);
  }

  nlohmann::json json(const Row& row) const {
    const BenchCase& t = *row.test;
    const double gbs = t.bytes / row.seconds / 1e9, tflops = t.flops / row.seconds / 1e12;
    const double peak = peak_tflops(device_, t.arithmetic);
    nlohmann::json j = {
        {"op", t.op},      {"shape", t.shape},      {"us", row.seconds * 1e6}, {"us_spread", row.spread * 1e6},
        {"gb_per_s", gbs}, {"of_copy", gbs / copy_}};
    j["tflops"] = t.flops > 0 ? nlohmann::json(tflops) : nlohmann::json();
    j["of_peak"] = t.flops > 0 && peak > 0 ? nlohmann::json(tflops / peak) : nlohmann::json();
    j["of_ceiling"] = t.flops > 0 ? nlohmann::json(tflops / ceiling_.at(t.arithmetic)) : nlohmann::json();
    j["yardstick"] = row.against > 0 ? nlohmann::json(row.against) : nlohmann::json();
    j["error"] = std::isnan(row.error) ? nlohmann::json() : nlohmann::json(row.error);
    return j;
  }

  void print_table() const {
    fmt::print("{:<22} {:<30} {:>12} {:>8} {:>16} {:>28} {:>9}\n", "op", "shape", "us", "+-", "GB/s (of copy)",
               "TFLOP/s (of peak, of best)", "yardstick");
    for (const Row& row : rows_) {
      const nlohmann::json j = json(row);
      const auto percent = [](const nlohmann::json& x) {
        return x.is_null() ? std::string("-") : fmt::format("{:.0f} %", 100 * x.get<double>());
      };
      fmt::print("{:<22} {:<30} {:>12.1f} {:>8.1f} {:>8.1f} ({:>5}) {:>28} {:>9}\n", row.test->op, row.test->shape,
                 row.seconds * 1e6, row.spread * 1e6, j["gb_per_s"].get<double>(), percent(j["of_copy"]),
                 row.test->flops > 0 ? fmt::format("{:.3f} ({}, {})", j["tflops"].get<double>(), percent(j["of_peak"]),
                                                   percent(j["of_ceiling"]))
                                     : "-",
                 row.against > 0 ? fmt::format("{:.2f} x", row.against) : "-");
    }
  }

  std::string csv() const {
    const std::vector<std::string> columns{"op",     "shape",   "us",         "us_spread", "gb_per_s", "of_copy",
                                           "tflops", "of_peak", "of_ceiling", "yardstick", "error"};
    std::string text = fmt::format("{},device,flops,bytes\n", fmt::join(columns, ","));
    for (const Row& row : rows_) {
      const nlohmann::json j = json(row);
      for (const std::string& c : columns) {
        text += j[c].is_null()     ? ""
                : j[c].is_string() ? j[c].get<std::string>()
                                   : fmt::format("{:.6g}", j[c].get<double>());
        text += ',';
      }
      text += fmt::format("\"{}\",{:.6g},{:.6g}\n", device_, row.test->flops, row.test->bytes);
    }
    return text;
  }

  nlohmann::json all() const {
    auto list = nlohmann::json::array();
    for (const Row& row : rows_) list.push_back(json(row));
    return {{"device", device_}, {"copy_gb_per_s", copy_}, {"cases", list}};
  }

 private:
  std::string device_;
  double copy_;
  std::vector<Row> rows_;
  std::map<DType, double> ceiling_;  // best rate of this run
};

void run(const Options& o, const GlobalOptions& global) {
  std::vector<BenchCase> cases = bench_cases(o.sizes);
  std::erase_if(cases,
                [&](const BenchCase& c) { return (c.op + " | " + c.shape).find(o.filter) == std::string::npos; });
  require(!cases.empty(), Exit::usage, "--filter {}: no case has this in its name; see ptq bench --list", o.filter);
  if (o.list) {
    for (const BenchCase& c : cases) fmt::print("{} | {}\n", c.op, c.shape);
    return;
  }
  const auto ops = global.open_device();
  const auto reference = o.verify ? make_cpu_ops(global.threads) : nullptr;
  const double copy = copy_rate(*ops, o.sizes.shrink);
  if (!o.json) fmt::print("{}; copies at {:.1f} GB/s\n", ops->description(), copy);
  Report report(ops->description(), copy);
  for (const BenchCase& c : cases) {
    report.add(measure(c, *ops, nullptr, reference.get(), o.budget));
    if (!o.json) fmt::print(stderr, "{} | {}\n", c.op, c.shape);
  }
  if (o.json)
    fmt::print("{}\n", report.all().dump(2));
  else
    report.print_table();
  if (!o.csv.empty()) write_file(o.csv, report.csv());
}

}  // namespace

void add_bench(CLI::App& app, GlobalOptions& global) {
  auto* command = app.add_subcommand("bench", "Verifies and times every operation at the shapes of the paper's models");
  command->footer("Example: ptq bench --device cuda --filter \"linear bf16\" --csv bench.csv");
  auto o = std::make_shared<Options>();
  command->add_option("--filter", o->filter, "only cases whose \"op | shape\" contains this");
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

#include "cli/bench_report.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>

namespace ptq {

namespace {

// FLOP/s that a device can do at most, by its name (datasheets: dense, without sparsity). 0: not known.
double peak_of(const std::string& device, DType arithmetic) {
  struct Peak {
    const char* name;
    double half, s8, f32;  // 10^12 a second
  };
  constexpr Peak peaks[] = {{"H200", 989, 1979, 67},  {"H100 PCIe", 756, 1513, 51}, {"H100", 989, 1979, 67},
                            {"A100", 312, 624, 19.5}, {"L40", 181, 362, 90.5},      {"L4", 121, 242, 30.3}};
  for (const Peak& p : peaks) {
    if (device.find(p.name) == std::string::npos) continue;
    return 1e12 * (arithmetic == DType::i8 ? p.s8 : arithmetic == DType::f32 ? p.f32 : p.half);
  }
  return 0;
}

nlohmann::json number_if(bool known, double x) { return known ? nlohmann::json(x) : nlohmann::json(); }

std::string percent(const nlohmann::json& x) {
  return x.is_null() ? std::string("-") : fmt::format("{:.0f} %", 100 * x.get<double>());
}

// A field of CSV (RFC 4180).
std::string field(const nlohmann::json& x) {
  if (x.is_null()) return {};
  if (!x.is_string()) return fmt::format("{:.6g}", x.get<double>());
  const auto text = x.get<std::string>();
  if (text.find_first_of(",\"\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (char c : text) quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + "\"";
}

}  // namespace

void BenchReport::add(const BenchRow& row) {
  double& best = best_[row.test->arithmetic];
  const double rate = row.test->flops / row.seconds;
  best = std::max({best, rate, row.opponent.empty() ? 0.0 : rate / row.ratio});
  rows_.push_back(row);
}

nlohmann::json BenchReport::json(const BenchRow& row) const {
  const BenchCase& t = *row.test;
  const double bytes = t.bytes / row.seconds, rate = t.flops / row.seconds;
  const double peak = peak_of(device_, t.arithmetic);
  const bool counts = t.flops > 0, competed = !row.opponent.empty();
  return {{"op", t.op},
          {"shape", t.shape},
          {"us", row.seconds * 1e6},
          {"us_spread", row.spread * 1e6},
          {"gb_per_s", bytes / 1e9},
          {"of_copy", bytes / 1e9 / copy_},
          {"tflops", number_if(counts, rate / 1e12)},
          {"of_peak", number_if(counts && peak > 0, rate / peak)},
          {"of_best", number_if(counts, rate / best_.at(t.arithmetic))},
          {"x_yardstick", number_if(competed, row.ratio)},
          {"x_low", number_if(competed, row.ratio_low)},
          {"x_high", number_if(competed, row.ratio_high)},
          {"yardstick", competed ? nlohmann::json(row.opponent) : nlohmann::json()},
          {"error", number_if(!std::isnan(row.error), row.error)},
          {"yardstick_error", number_if(!std::isnan(row.opponent_error), row.opponent_error)},
          {"arithmetic", name_of(t.arithmetic)},
          {"flops", t.flops},
          {"bytes", t.bytes}};
}

void BenchReport::print_table() const {
  fmt::print("{:<26} {:<30} {:>12} {:>8} {:>17} {:>28} {:>12}\n", "op", "shape", "us", "+-", "GB/s (of copy)",
             "TFLOP/s (of peak, of best)", "x yardstick");
  for (const BenchRow& row : rows_) {
    const nlohmann::json j = json(row);
    const std::string rate = j["tflops"].is_null() ? "-"
                                                   : fmt::format("{:.3f} ({}, {})", j["tflops"].get<double>(),
                                                                 percent(j["of_peak"]), percent(j["of_best"]));
    fmt::print("{:<26} {:<30} {:>12.1f} {:>8.1f} {:>8.1f} ({:>6}) {:>28} {:>12}\n", row.test->op, row.test->shape,
               row.seconds * 1e6, row.spread * 1e6, j["gb_per_s"].get<double>(), percent(j["of_copy"]), rate,
               row.opponent.empty() ? "-" : fmt::format("{:.3f}", row.ratio));
  }
}

std::string BenchReport::csv() const {
  const std::vector<std::string> columns{
      "op",          "shape", "us",     "us_spread", "gb_per_s", "of_copy",         "tflops", "of_peak", "of_best",
      "x_yardstick", "x_low", "x_high", "yardstick", "error",    "yardstick_error", "flops",  "bytes",   "arithmetic"};
  std::string text = fmt::format("{},device\n", fmt::join(columns, ","));
  for (const BenchRow& row : rows_) {
    const nlohmann::json j = json(row);
    for (const std::string& column : columns) text += field(j[column]) + ",";
    text += field(device_) + "\n";
  }
  return text;
}

nlohmann::json BenchReport::json() const {
  auto cases = nlohmann::json::array();
  for (const BenchRow& row : rows_) cases.push_back(json(row));
  return {{"device", device_}, {"copy_gb_per_s", copy_}, {"cases", cases}};
}

}  // namespace ptq

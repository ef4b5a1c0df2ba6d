// The figures of a `ptq bench` run as a table, CSV and JSON. docs/profiling.md says how to read them.
#pragma once

#include "cli/bench_timing.h"

#include <nlohmann/json_fwd.hpp>

#include <map>

namespace ptq {

class BenchReport {
 public:
  // copy: GB/s of a copy in this run.
  BenchReport(std::string device, double copy) : device_(std::move(device)), copy_(copy) {}

  void add(const BenchRow& row);

  void print_table() const;
  std::string csv() const;
  nlohmann::json json() const;

 private:
  nlohmann::json json(const BenchRow& row) const;

  std::string device_;
  double copy_;
  std::vector<BenchRow> rows_;
  std::map<DType, double> best_;  // FLOP/s of this run, opponents included, by arithmetic
};

}  // namespace ptq

// What `ptq bench` runs: every operation of host/ops.h at the shapes of the paper's models.
#pragma once

#include "host/ops.h"

#include <functional>
#include <string>
#include <vector>

namespace ptq {

// A case on one backend: its inputs are there, `run` does the work into an output that `result` brings to the host.
struct BenchRun {
  std::function<void()> run;
  std::function<Tensor()> result;
};

struct BenchCase {
  std::string op;        // "linear bf16"
  std::string shape;     // "T 2048 N 4096 I 4096"
  DType arithmetic;      // whose peak the rate is compared with: f32, bf16, f16, i8
  double flops = 0;      // 0: bound by memory
  double bytes = 0;      // read and written at least
  double tolerance = 0;  // largest rms difference from the CPU backend, relative to the rms of the result; 0: same bits
  std::function<BenchRun(Ops&)> prepare;
};

struct BenchSizes {
  std::int64_t tokens = 2048;
  std::int64_t shrink = 1;  // divides widths and vocabularies, for backends without a GPU
};

// In the order of docs/performance.md.
std::vector<BenchCase> bench_cases(const BenchSizes& sizes);

}  // namespace ptq

// What `ptq bench` runs: every operation of host/ops.h at the shapes of the paper's models.
#pragma once

#include "host/ops.h"

#include <functional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace ptq {

// A case on one backend: its inputs are there, `run` does the work into an output that `result` brings to the host.
struct BenchRun {
  std::function<void()> run;
  std::function<Tensor()> result;
  std::function<void()> setup = [] {};  // before each run, not timed: brings back what a run changes in place
};

struct BenchCase {
  std::string op;        // "linear bf16"
  std::string shape;     // "T 2048 N 4096 I 4096"
  DType arithmetic;      // whose peak the rate is compared with: f32, bf16, f16, i8
  double flops = 0;      // 0: bound by memory
  double bytes = 0;      // read and written at least
  double tolerance = 0;  // largest rms difference from the CPU backend, relative to the rms of the result; 0: same bits
  std::function<BenchRun(Ops&)> prepare;
  std::string step = {};  // a rung of the teaching ladder that runs it, measured against the production kernel
};

struct BenchSizes {
  std::int64_t tokens = 2048;
  std::int64_t shrink = 1;  // divides widths and vocabularies, for backends without a GPU
};

// The distinct shapes of the paper's models.
struct BenchShapes {
  explicit BenchShapes(const BenchSizes& sizes);

  std::int64_t tokens;                                           // T
  std::set<std::pair<std::int64_t, std::int64_t>> linears;       // N, I
  std::set<std::pair<std::int64_t, std::int64_t>> heads;         // H, K
  std::set<std::pair<std::int64_t, std::int64_t>> vocabularies;  // V, D
  std::set<std::int64_t> widths;                                 // D and F
};

// All cases in the order of docs/performance.md; the rungs of the ladder are behind them.
std::vector<BenchCase> bench_cases(const BenchSizes& sizes);

// Groups of them (bench_products.cpp, bench_layers.cpp, bench_quantization.cpp).
void add_product_cases(std::vector<BenchCase>& cases, const BenchShapes& s);
void add_layer_cases(std::vector<BenchCase>& cases, const BenchShapes& s);
void add_quantization_cases(std::vector<BenchCase>& cases, const BenchShapes& s);

BenchCase linear_case(DType type, std::int64_t tokens, std::int64_t n, std::int64_t i);
BenchCase attention_case(DType type, std::int64_t tokens, std::int64_t heads, std::int64_t kv_heads);
BenchCase sweep_case(std::int64_t n, std::int64_t i);

}  // namespace ptq

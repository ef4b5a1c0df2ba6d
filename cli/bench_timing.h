// How `ptq bench` checks and times a case.
#pragma once

#include "cli/bench_cases.h"

#include <cmath>
#include <string>

namespace ptq {

// What a case is measured against: a case on another backend.
struct BenchOpponent {
  Ops* ops = nullptr;  // null: there is none
  const BenchCase* test = nullptr;
  std::string name;  // of what runs there, "cublasLt"
};

struct BenchRow {
  const BenchCase* test = nullptr;
  double seconds = 0, spread = 0;                   // median, half the distance between quartiles
  std::string opponent;                             // BenchOpponent::name, "" if there was none
  double ratio = 0, ratio_low = 0, ratio_high = 0;  // opponent's time over ours: median of pairs, its 95 % interval
  double error = std::nan(""), opponent_error = std::nan("");  // relative rms from the reference; NaN: not compared
};

// Compares one run with `reference` if there is one (exit 76 beyond the case's tolerance), and one of the opponent.
// Then runs the case, each time with nothing in the caches and right before the opponent's run, for `budget` seconds of
// both, but 5 to 50 times.
BenchRow measure(const BenchCase& test, Ops& ops, const BenchOpponent& opponent, Ops* reference, double budget);

// GB/s, read and written, of gathering all rows of 64 MiB / shrink in order: a copy.
double copy_rate(Ops& ops, std::int64_t shrink);

}  // namespace ptq

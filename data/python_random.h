// CPython's random module for integers, bit for bit, because the reference's calibration sets are defined by
// random.seed(int) and random.randint (spec A.8). Any draw made here can be repeated with two lines of Python.
#pragma once

#include <cstdint>
#include <random>

namespace ptq {

class PythonRandom {
 public:
  explicit PythonRandom(std::uint64_t seed);  // random.seed(seed)

  // random.randint(lo, hi): uniform in lo..hi inclusive, lo <= hi, by rejection on the width's bit length.
  std::int64_t randint(std::int64_t lo, std::int64_t hi);

 private:
  std::uint64_t bits(int count);  // random.getrandbits(count), 1 <= count <= 64

  std::mt19937 engine_;
};

}  // namespace ptq

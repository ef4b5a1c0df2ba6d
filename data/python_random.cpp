#include "data/python_random.h"

#include "host/error.h"

#include <algorithm>
#include <array>
#include <bit>

namespace ptq {

namespace {

// The standard engine is the same Mersenne Twister; only the way in which a seed becomes its 624 words differs. This
// seed sequence is MT19937's init_by_array with the seed's 32-bit words, lowest first, as key (Matsumoto, Nishimura
// 2002), which is what CPython does with abs(seed).
class KeyedSeed {
 public:
  using result_type = std::uint32_t;

  explicit KeyedSeed(std::uint64_t seed)
      : key_{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)}, length_(key_[1] ? 2 : 1) {}

  template <class It>
  void generate(It begin, It end) {
    std::array<std::uint32_t, 624> s{19650218u};
    const auto n = static_cast<std::uint32_t>(s.size());
    for (std::uint32_t i = 1; i < n; ++i) s[i] = 1812433253u * (s[i - 1] ^ (s[i - 1] >> 30)) + i;
    std::uint32_t i = 1;
    const auto step = [&] {
      if (++i == n) {
        s[0] = s[n - 1];
        i = 1;
      }
    };
    for (std::uint32_t k = 0, j = 0; k < n; ++k, j = (j + 1) % length_) {
      s[i] = (s[i] ^ ((s[i - 1] ^ (s[i - 1] >> 30)) * 1664525u)) + key_[j] + j;
      step();
    }
    for (std::uint32_t k = 1; k < n; ++k) {
      s[i] = (s[i] ^ ((s[i - 1] ^ (s[i - 1] >> 30)) * 1566083941u)) - i;
      step();
    }
    s[0] = 0x80000000u;
    std::copy_n(s.begin(), end - begin, begin);
  }

 private:
  std::array<std::uint32_t, 2> key_;
  std::uint32_t length_;
};

std::mt19937 seeded(std::uint64_t seed) {
  KeyedSeed sequence(seed);
  return std::mt19937(sequence);
}

}  // namespace

PythonRandom::PythonRandom(std::uint64_t seed) : engine_(seeded(seed)) {}

std::uint64_t PythonRandom::bits(int count) {
  if (count <= 32) return engine_() >> (32 - count);
  const std::uint64_t low = engine_();
  return low | (static_cast<std::uint64_t>(engine_()) >> (64 - count)) << 32;
}

std::int64_t PythonRandom::randint(std::int64_t lo, std::int64_t hi) {
  check(lo <= hi, "randint({}, {}) is empty", lo, hi);
  const std::uint64_t width = static_cast<std::uint64_t>(hi) - static_cast<std::uint64_t>(lo) + 1;
  check(width != 0, "randint over all 64-bit integers");
  const int length = std::bit_width(width);
  std::uint64_t draw = bits(length);
  while (draw >= width) draw = bits(length);
  return lo + static_cast<std::int64_t>(draw);
}

}  // namespace ptq

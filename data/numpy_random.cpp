#include "data/numpy_random.h"

#include <array>
#include <bit>
#include <numeric>
#include <utility>

namespace ptq {

namespace {

__extension__ using Word128 = unsigned __int128;

// NumPy's SeedSequence: the seed's 32-bit words hashed into a pool of four, from which any number of words is drawn
// (after M. E. O'Neill's seed_seq_fe). Its constants are part of NumPy's promise never to change a stream.
class SeedSequence {
 public:
  explicit SeedSequence(std::uint64_t seed)
      : pool_{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)} {
    for (std::uint32_t& word : pool_) word = absorb(word);
    for (std::size_t from = 0; from < pool_.size(); ++from)
      for (std::size_t to = 0; to < pool_.size(); ++to)
        if (from != to) pool_[to] = mix(pool_[to], absorb(pool_[from]));
  }

  // generate_state(4, uint64)
  std::array<std::uint64_t, 4> state() const {
    std::array<std::uint64_t, 4> words{};
    std::uint32_t hash = 0x8b51f9ddu;
    for (std::size_t i = 0; i < 8; ++i) {
      std::uint32_t word = pool_[i % 4] ^ hash;
      hash *= 0x58f38dedu;
      word *= hash;
      word ^= word >> 16;
      words[i / 2] |= std::uint64_t{word} << (i % 2 * 32);
    }
    return words;
  }

 private:
  std::uint32_t absorb(std::uint32_t word) {
    word ^= hash_;
    hash_ *= 0x931e8875u;
    word *= hash_;
    return word ^ word >> 16;
  }
  static std::uint32_t mix(std::uint32_t x, std::uint32_t y) {
    const std::uint32_t mixed = 0xca01f9ddu * x - 0x4973f715u * y;
    return mixed ^ mixed >> 16;
  }

  std::array<std::uint32_t, 4> pool_;
  std::uint32_t hash_ = 0x43b0d7e5u;
};

// PCG XSL RR 128/64 with a stream of its own, which NumPy calls PCG64.
class Pcg64 {
 public:
  explicit Pcg64(std::uint64_t seed) {
    const auto words = SeedSequence(seed).state();
    increment_ = (Word128{words[2]} << 64 | words[3]) << 1 | 1;
    step();
    state_ += Word128{words[0]} << 64 | words[1];
    step();
  }

  // The low half of a 64-bit draw, then its high half.
  std::uint32_t next32() {
    if (std::exchange(has_half_, !has_half_)) return half_;
    step();
    const auto high = static_cast<std::uint64_t>(state_ >> 64);
    const std::uint64_t draw = std::rotr(high ^ static_cast<std::uint64_t>(state_), static_cast<int>(high >> 58));
    half_ = static_cast<std::uint32_t>(draw >> 32);
    return static_cast<std::uint32_t>(draw);
  }

  // Uniform in 0..most by rejection of draws masked to its bits (NumPy's random_interval).
  std::uint32_t bounded(std::uint32_t most) {
    const auto mask = static_cast<std::uint32_t>((std::uint64_t{1} << std::bit_width(most)) - 1);
    std::uint32_t draw = next32() & mask;
    while (draw > most) draw = next32() & mask;
    return draw;
  }

 private:
  void step() { state_ = state_ * (Word128{0x2360ed051fc65da4u} << 64 | 0x4385df649fccf645u) + increment_; }

  Word128 state_ = 0, increment_ = 0;
  std::uint32_t half_ = 0;
  bool has_half_ = false;
};

}  // namespace

std::vector<std::int64_t> numpy_permutation(std::uint64_t seed, std::int64_t n) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  Pcg64 random(seed);
  for (std::size_t i = order.size(); i-- > 1;)
    std::swap(order[i], order[random.bounded(static_cast<std::uint32_t>(i))]);
  return order;
}

}  // namespace ptq

// Every instruction of cuda/ptx.cuh against the PTX ISA, with operands that give exact results: one number at a time,
// and integers. The layouts are written here a second time, in the words of the ISA. Compiled with -Dcuda=simt it
// checks the executor's meanings, without it the maps of ptx.cuh on a GPU.
#include "cuda/ptx_check.h"
#include "host/ops.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>

namespace ptq::cuda {
namespace {

std::unique_ptr<Ops> make_ops() {
#ifdef cuda  // -Dcuda=simt
  return make_simt_ops();
#else
  return make_cuda_ops();
#endif
}

class Ptx : public ::testing::Test {
 protected:
  void SetUp() override {
#ifndef cuda
    if (cuda_devices().empty()) GTEST_SKIP() << "no GPU";
#endif
    ops = make_ops();
  }

  // A copy of v on the device while this test runs.
  template <class T>
  T* device(const std::vector<T>& v) {
    Tensor host = Tensor::empty(DType::u8, {static_cast<std::int64_t>(v.size() * sizeof(T))});
    std::memcpy(host.raw(), v.data(), host.bytes());
    tensors.push_back(ops->to_device(host));
    return static_cast<T*>(tensors.back().raw());
  }
  // What is there now.
  template <class T>
  std::vector<T> read(const T* device) {
    for (const Tensor& t : tensors) {
      if (t.raw() != device) continue;
      const Tensor host = ops->to_host(t);
      std::vector<T> v(host.bytes() / sizeof(T));
      std::memcpy(v.data(), host.raw(), host.bytes());
      return v;
    }
    ADD_FAILURE() << "not memory of this test";
    return {};
  }

  std::unique_ptr<Ops> ops;
  std::vector<Tensor> tensors;
};

// --- conversions -----------------------------------------------------------------------------------------------------

template <class T>
struct Format;
template <>
struct Format<bf16> {
  static constexpr int exponent_bits = 8, fraction_bits = 7;
};
template <>
struct Format<f16> {
  static constexpr int exponent_bits = 5, fraction_bits = 10;
};

// The value of positive bits by the definition of the format; that of infinity is where it would be as a number.
template <class T>
double magnitude(int bits) {
  constexpr int fraction_bits = Format<T>::fraction_bits, bias = (1 << (Format<T>::exponent_bits - 1)) - 1;
  const int exponent = bits >> fraction_bits, fraction = bits & ((1 << fraction_bits) - 1);
  return exponent == 0 ? std::ldexp(fraction, 1 - bias - fraction_bits)
                       : std::ldexp(fraction + (1 << fraction_bits), exponent - bias - fraction_bits);
}
template <class T>
constexpr int infinity = ((1 << Format<T>::exponent_bits) - 1) << Format<T>::fraction_bits;

template <class T>
class PtxHalf : public Ptx {};
using Halves = ::testing::Types<bf16, f16>;
TYPED_TEST_SUITE(PtxHalf, Halves);

TYPED_TEST(PtxHalf, WidensAllBits) {
  using T = TypeParam;
  std::vector<T> x(65536);
  for (std::size_t i = 0; i < x.size(); ++i) x[i].bits = static_cast<std::uint16_t>(i);
  float* out = this->device(std::vector<float>(x.size()));
  ptx_widen<T>(out, this->device(x), static_cast<int>(x.size()), nullptr);
  const std::vector<float> y = this->read(out);
  for (int i = 0; i < 65536; ++i) {
    const float got = y[static_cast<std::size_t>(i)];
    const int positive = i & 0x7fff;
    if (positive > infinity<T>) {
      ASSERT_TRUE(std::isnan(got)) << i;
    } else if (positive == infinity<T>) {
      ASSERT_EQ(got, i < 0x8000 ? INFINITY : -INFINITY) << i;
    } else {
      ASSERT_EQ(std::fabs(got), static_cast<float>(magnitude<T>(positive))) << i;
      ASSERT_EQ(std::signbit(got), i >= 0x8000) << i;
    }
  }
}

// Every number, and around the middle to its neighbour: below it, in it (to the even one) and above it.
TYPED_TEST(PtxHalf, RoundsToTheNearestAndTiesToEven) {
  using T = TypeParam;
  std::vector<float> x;
  std::vector<int> expected;
  const auto add = [&](double value, int bits) {
    const auto single = static_cast<float>(value);
    x.push_back(single);
    expected.push_back(bits);
    x.push_back(-single);
    expected.push_back(bits | 0x8000);
  };
  for (int bits = 0; bits < infinity<T>; ++bits) {
    const auto middle = static_cast<float>((magnitude<T>(bits) + magnitude<T>(bits + 1)) / 2);
    add(magnitude<T>(bits), bits);
    add(std::nextafter(middle, 0.0f), bits);
    add(middle, bits + bits % 2);
    add(std::nextafter(middle, INFINITY), bits + 1);
  }
  add(INFINITY, infinity<T>);
  add(std::numeric_limits<float>::max(), infinity<T>);
  add(std::numeric_limits<float>::denorm_min(), 0);
  T* out = this->device(std::vector<T>(x.size()));
  ptx_round<T>(out, this->device(x), static_cast<int>(x.size()), nullptr);
  const std::vector<T> y = this->read(out);
  for (std::size_t i = 0; i < x.size(); ++i) ASSERT_EQ(y[i].bits, expected[i]) << x[i];

  T* nan = this->device(std::vector<T>(1));
  ptx_round<T>(nan, this->device(std::vector<float>{NAN}), 1, nullptr);
  EXPECT_GT(this->read(nan)[0].bits & 0x7fff, infinity<T>);
}

TYPED_TEST(PtxHalf, PairsHoldTheFirstInTheLowBits) {
  using T = TypeParam;
  const std::vector<float> x{1.0f, -2.0f, 0.0f, 1.00390625f, 3.0f, -0.0f};
  std::uint32_t* pairs = this->device(std::vector<std::uint32_t>(3));
  float* out = this->device(std::vector<float>(6));
  ptx_pairs<T>(pairs, out, this->device(x), 3, nullptr);
  const int one = infinity<T> / 2 / (1 << Format<T>::fraction_bits) << Format<T>::fraction_bits;  // exponent = bias
  const std::vector<std::uint32_t> p = this->read(pairs);
  EXPECT_EQ(p[0] & 0xffffu, static_cast<unsigned>(one));
  EXPECT_EQ(p[0] >> 16, 0x8000u | static_cast<unsigned>(one + (1 << Format<T>::fraction_bits)));
  EXPECT_EQ(p[2] >> 16, 0x8000u);
  const std::vector<float> y = this->read(out);
  for (std::size_t i : {0u, 1u, 2u, 4u, 5u}) EXPECT_EQ(y[i], x[i]);
  EXPECT_EQ(y[3], (std::is_same_v<T, bf16> ? 1.0f : x[3]));  // between two bf16 numbers
}

// --- cp.async and ldmatrix -------------------------------------------------------------------------------------------

TEST_F(Ptx, AsyncCopiesOfAnyNumberOfBytes) {
  for (int size : {4, 16}) {
    for (int chunks : {1, 2, size + 1}) {
      std::vector<unsigned char> x(static_cast<std::size_t>(chunks * size));
      std::iota(x.begin(), x.end(), static_cast<unsigned char>(1));
      std::vector<int> bytes(static_cast<std::size_t>(chunks));
      for (int c = 0; c < chunks; ++c) bytes[static_cast<std::size_t>(c)] = size - c;
      unsigned char* out = device(std::vector<unsigned char>(x.size(), 0xee));
      ptx_copy(out, device(x), device(bytes), chunks, size, nullptr);
      const std::vector<unsigned char> y = read(out);
      for (std::size_t i = 0; i < x.size(); ++i) {
        const int c = static_cast<int>(i) / size, at = static_cast<int>(i) % size;
        ASSERT_EQ(y[i], at < size - c ? x[i] : 0) << "size " << size << " chunk " << c << " byte " << at;
      }
    }
  }
}

// ISA, "ldmatrix": thread l of each matrix receives the elements 2 (l % 4) and 2 (l % 4) + 1 of row l / 4; with .trans
// of the transposed matrix. Addresses come from threads 0-7 for the first matrix, 8-15 for the second ...
TEST_F(Ptx, LoadsMatricesInTheLayoutOfTheIsa) {
  std::vector<std::uint16_t> x(32 * 8);
  std::iota(x.begin(), x.end(), std::uint16_t{1000});
  std::vector<int> rows(32);
  for (int l = 0; l < 32; ++l) rows[static_cast<std::size_t>(l)] = (l * 13 + 5) % 32;  // any order is allowed
  for (bool transposed : {false, true}) {
    std::uint32_t* out = device(std::vector<std::uint32_t>(32 * 4));
    ptx_load(out, device(x), device(rows), transposed, nullptr);
    const std::vector<std::uint32_t> y = read(out);
    for (int lane = 0; lane < 32; ++lane) {
      for (int m = 0; m < 4; ++m) {
        for (int e = 0; e < 2; ++e) {
          int row = lane / 4, col = 2 * (lane % 4) + e;
          if (transposed) std::swap(row, col);
          const unsigned got = y[static_cast<std::size_t>(lane * 4 + m)] >> (16 * e) & 0xffffu;
          ASSERT_EQ(got, x[static_cast<std::size_t>(rows[static_cast<std::size_t>(m * 8 + row)] * 8 + col)])
              << "lane " << lane << " matrix " << m << " element " << e << " transposed " << transposed;
        }
      }
    }
  }
}

// --- mma -------------------------------------------------------------------------------------------------------------

// ISA, "Matrix Fragments for mma.m16n8k16 with floating point type" and "for mma.m16n8k32 (.s8)", with groupID = lane /
// 4 and threadID_in_group = lane % 4.
struct At {
  int row, col;
};
At a16(int lane, int i) {
  const int row = (0 <= i && i < 2) || (4 <= i && i < 6) ? lane / 4 : lane / 4 + 8;
  return {row, i < 4 ? lane % 4 * 2 + (i & 1) : lane % 4 * 2 + (i & 1) + 8};
}
At b16(int lane, int i) { return {i < 2 ? lane % 4 * 2 + (i & 1) : lane % 4 * 2 + (i & 1) + 8, lane / 4}; }
At a32(int lane, int i) {
  const int row = (0 <= i && i < 4) || (8 <= i && i < 12) ? lane / 4 : lane / 4 + 8;
  return {row, i < 8 ? lane % 4 * 4 + (i & 3) : lane % 4 * 4 + (i & 3) + 16};
}
At b32(int lane, int i) { return {i < 4 ? lane % 4 * 4 + (i & 3) : lane % 4 * 4 + (i & 3) + 16, lane / 4}; }
At c16(int lane, int i) { return {i < 2 ? lane / 4 : lane / 4 + 8, lane % 4 * 2 + (i & 1)}; }

bf16 half_of(float x, bf16) { return to_bf16(x); }
f16 half_of(float x, f16) { return to_f16(x); }
std::int8_t half_of(float x, std::int8_t) { return static_cast<std::int8_t>(x); }
unsigned bits_of(bf16 x) { return x.bits; }
unsigned bits_of(f16 x) { return x.bits; }
unsigned bits_of(std::int8_t x) { return static_cast<std::uint8_t>(x); }

// Products of small integers, and their exact results.
template <class T>
struct Products {
  static constexpr int K = 32 / static_cast<int>(sizeof(T)), per = 4 / static_cast<int>(sizeof(T));
  using Sum = std::conditional_t<std::is_same_v<T, std::int8_t>, std::int32_t, float>;
  int n = 0;
  std::vector<T> a, b;      // (n, 16, K), (n, K, 8)
  std::vector<Sum> c, sum;  // (n, 16, 8), before and after

  // One product more of A(row, k), B(k, col), C(row, col).
  template <class A, class B, class C>
  void add(A A_, B B_, C C_) {
    ++n;
    for (int i = 0; i < 16; ++i) {
      for (int k = 0; k < K; ++k) a.push_back(half_of(static_cast<float>(A_(i, k)), T{}));
    }
    for (int k = 0; k < K; ++k) {
      for (int j = 0; j < 8; ++j) b.push_back(half_of(static_cast<float>(B_(k, j)), T{}));
    }
    for (int i = 0; i < 16; ++i) {
      for (int j = 0; j < 8; ++j) {
        int total = C_(i, j);
        c.push_back(static_cast<Sum>(total));
        for (int k = 0; k < K; ++k) total += A_(i, k) * B_(k, j);
        sum.push_back(static_cast<Sum>(total));
      }
    }
  }

  // Every element of a alone against numbers, every element of b alone against numbers, and everything at once.
  Products() {
    const auto number = [](int i, int j) { return i * 8 + j - 60; };  // all different
    const auto zero = [](int, int) { return 0; };
    for (int i = 0; i < 16; ++i) {
      for (int k = 0; k < K; ++k) {
        add([=](int row, int col) { return row == i && col == k ? 1 : 0; },
            [](int row, int col) { return (row * 8 + col) % 127 - 63; }, zero);
      }
    }
    for (int k = 0; k < K; ++k) {
      for (int j = 0; j < 8; ++j) {
        add([](int row, int col) { return (row * K + col) % 127 - 63; },
            [=](int row, int col) { return row == k && col == j ? 1 : 0; }, number);
      }
    }
    std::mt19937 generator(5);
    for (int repeat = 0; repeat < 20; ++repeat) {
      int numbers[16][K], others[K][8];
      std::uniform_int_distribution<int> any(-128, 127);
      for (auto& row : numbers) {
        for (int& x : row) x = any(generator);
      }
      for (auto& row : others) {
        for (int& x : row) x = any(generator);
      }
      add([&](int i, int k) { return numbers[i][k]; }, [&](int k, int j) { return others[k][j]; }, number);
    }
  }

  // The registers of all lanes for matrices of `rows` x `cols` at the places `map` of the ISA.
  template <class Map>
  std::vector<std::uint32_t> registers(const std::vector<T>& x, int rows, int cols, Map map) const {
    const int each = rows * cols / 32 / per;
    std::vector<std::uint32_t> all(static_cast<std::size_t>(n * 32 * each));
    for (int p = 0; p < n; ++p) {
      for (int lane = 0; lane < 32; ++lane) {
        for (int i = 0; i < each * per; ++i) {
          const At at = map(lane, i);
          const unsigned bits = bits_of(x[static_cast<std::size_t>((p * rows + at.row) * cols + at.col)]);
          all[static_cast<std::size_t>((p * 32 + lane) * each + i / per)] |= bits << (32 / per * (i % per));
        }
      }
    }
    return all;
  }
  std::vector<Sum> accumulators(const std::vector<Sum>& x) const {
    std::vector<Sum> all;
    for (int p = 0; p < n; ++p) {
      for (int lane = 0; lane < 32; ++lane) {
        for (int i = 0; i < 4; ++i) {
          const At at = c16(lane, i);
          all.push_back(x[static_cast<std::size_t>((p * 16 + at.row) * 8 + at.col)]);
        }
      }
    }
    return all;
  }
};

TYPED_TEST(PtxHalf, MultipliesRegistersInTheLayoutOfTheIsa) {
  using T = TypeParam;
  const Products<T> p;
  float* c = this->device(p.accumulators(p.c));
  ptx_mma_registers<T>(c, this->device(p.registers(p.a, 16, 16, a16)), this->device(p.registers(p.b, 16, 8, b16)), p.n,
                       nullptr);
  EXPECT_EQ(this->read(c), p.accumulators(p.sum));
}

TYPED_TEST(PtxHalf, MultipliesMatricesThroughTheMaps) {
  using T = TypeParam;
  const Products<T> p;
  float* c = this->device(p.c);
  ptx_mma<T>(c, this->device(p.a), this->device(p.b), p.n, nullptr);
  EXPECT_EQ(this->read(c), p.sum);
}

TEST_F(Ptx, MultipliesByteRegistersInTheLayoutOfTheIsa) {
  const Products<std::int8_t> p;
  std::int32_t* c = device(p.accumulators(p.c));
  ptx_mma_registers_s8(c, device(p.registers(p.a, 16, 32, a32)), device(p.registers(p.b, 32, 8, b32)), p.n, nullptr);
  EXPECT_EQ(read(c), p.accumulators(p.sum));
}

TEST_F(Ptx, MultipliesByteMatricesThroughTheMaps) {
  const Products<std::int8_t> p;
  std::int32_t* c = device(p.c);
  ptx_mma_s8(c, device(p.a), device(p.b), p.n, nullptr);
  EXPECT_EQ(read(c), p.sum);
}

}  // namespace
}  // namespace ptq::cuda

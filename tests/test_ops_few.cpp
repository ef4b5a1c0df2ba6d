// linear_few, the linear of decoding: right within the bound of its sums, and a row's bits are its own.
#include "coded_inputs.h"
#include "reference.h"

#include <cstdlib>
#include <filesystem>

namespace ptq::testing {
namespace {

using Few = OpsTest;
PTQ_ON_ALL_BACKENDS(Few);

enum class Kind { floats, u4, u8 };
constexpr Kind kinds[] = {Kind::floats, Kind::u4, Kind::u8};

struct Problem {
  WeightPtr packed;
  Tensor w;  // the values that are multiplied
};

Problem make_problem(Ops& ops, Kind kind, DType t, std::int64_t n, std::int64_t i, unsigned seed) {
  if (kind == Kind::floats) {
    const Tensor w = random(t, {n, i}, seed);
    return {ops.pack(w, float_format(t)), w};
  }
  const bool runs = seed % 3 == 0;  // of a size that kernels handle on its own
  const CodedWeight w =
      random_codes(kind == Kind::u4 ? 4 : 8, n, i, runs ? 64 : 24, seed, runs ? Grouping::runs : Grouping::shuffled);
  return {ops.pack_codes(w, t), dequantized(w).to(t)};
}

Tensor run(Ops& ops, const Tensor& x, const Weight& w, const Tensor& b = {}) {
  Guarded y(ops, x.dtype(), {x.rows(), w.out_features()});
  ops.linear_few(y.tensor(), ops.to_device(x), w, b ? ops.to_device(b) : b);
  return y.read();
}

TEST_P(Few, AwkwardShapes) {
  unsigned seed = 1;
  for (DType t : compute_dtypes) {
    for (Kind kind : kinds) {
      for (std::int64_t rows : {1, 2, 3, 6, 7, 16}) {
        for (auto [n, i] : {std::pair<int, int>{1, 1}, {1, 129}, {37, 7}, {64, 64}, {130, 33}, {577, 200}}) {
          const Problem p = make_problem(*ops, kind, t, n, i, ++seed);
          const Tensor x = random(t, {rows, i}, ++seed);
          const Tensor b = seed % 4 == 0 ? Tensor() : random(DType::f32, {n}, ++seed);
          EXPECT_TRUE(near(run(*ops, x, *p.packed, b), linear(x, p.w, b, t)))
              << name_of(t) << " kind " << static_cast<int>(kind) << ", " << rows << " x " << i << " x " << n;
        }
      }
    }
  }
}

// Around strips of 16 output rows, chunks of 64 columns, and 8 of them at once.
TEST_P(Few, AroundTiles) {
  unsigned seed = 2;
  for (DType t : compute_dtypes) {
    for (Kind kind : kinds) {
      for (auto [n, i] :
           {std::pair<int, int>{15, 63}, {16, 65}, {17, 512}, {31, 576}, {33, 1025}, {32, 1728}, {3, 2240}}) {
        seed += 1;
        const Problem p = make_problem(*ops, kind, t, n, i, seed);
        const Tensor x = random(t, {9, i}, seed);
        EXPECT_TRUE(near(run(*ops, x, *p.packed), linear(x, p.w, {}, t)))
            << name_of(t) << " kind " << static_cast<int>(kind) << ", " << i << " x " << n;
      }
    }
  }
}

// Rows of x that do not begin at a multiple of 16 bytes, or not even at a multiple of 4.
TEST_P(Few, AnyAlignmentOfX) {
  for (DType t : compute_dtypes) {
    for (Kind kind : kinds) {
      for (std::int64_t i : {64, 72, 33, 66}) {
        const Problem p = make_problem(*ops, kind, t, 40, i, 3);
        const Tensor x = random(t, {8, i}, 2);
        Guarded y(*ops, t, {5, 40});
        ops->linear_few(y.tensor(), device(x).slice_rows(3, 8), *p.packed, {});
        EXPECT_TRUE(same_bits(y.read(), run(*ops, x.slice_rows(3, 8).clone(), *p.packed))) << name_of(t) << " " << i;
      }
    }
  }
}

// Where sums are exact, linear() and linear_few() agree to the bit.
TEST_P(Few, IsLinearOnSmallIntegers) {
  for (DType t : compute_dtypes) {
    const Tensor w = random(t, {1030, 27}, 6, Data::small_integers), x = random(t, {5, 27}, 5, Data::small_integers);
    const WeightPtr packed = ops->pack(w, float_format(t));
    Guarded y(*ops, t, {5, 1030});
    ops->linear(y.tensor(), device(x), *packed, {});
    EXPECT_TRUE(same_bits(run(*ops, x, *packed), y.read())) << name_of(t);
  }
}

// Logits: sums of bf16 and f16 operands that are not rounded to them.
TEST_P(Few, FloatsOfHalves) {
  for (DType t : {DType::bf16, DType::f16}) {
    for (Kind kind : kinds) {
      const Problem p = make_problem(*ops, kind, t, 130, 200, 7);
      const Tensor x = random(t, {3, 200}, 8);
      Guarded y(*ops, DType::f32, {3, 130});
      ops->linear_few(y.tensor(), device(x), *p.packed, {});
      EXPECT_TRUE(near(y.read(), linear(x, p.w, {}, DType::f32))) << name_of(t) << " kind " << static_cast<int>(kind);
    }
  }
}

TEST_P(Few, ARowDoesNotDependOnTheOthers) {
  for (DType t : compute_dtypes) {
    for (Kind kind : kinds) {
      for (auto [n, i] : {std::pair<int, int>{37, 130}, {513, 64}, {200, 577}}) {
        const Problem p = make_problem(*ops, kind, t, n, i, 3);
        const Tensor x = random(t, {16, i}, 4), all = run(*ops, x, *p.packed);
        for (auto [begin, end] : {std::pair<int, int>{0, 1}, {3, 4}, {15, 16}, {0, 2}, {5, 9}, {9, 16}}) {
          EXPECT_TRUE(same_bits(run(*ops, x.slice_rows(begin, end).clone(), *p.packed), all.slice_rows(begin, end)))
              << name_of(t) << " kind " << static_cast<int>(kind) << " rows " << begin << " to " << end;
        }
      }
    }
  }
}

TEST_P(Few, KeepsNonFinite) {
  for (Kind kind : kinds) {
    Problem p = make_problem(*ops, kind, DType::f32, 5, 16, 2);
    Tensor x = random(DType::f32, {3, 16}, 1);
    x.data<float>()[16] = NAN;
    x.data<float>()[32] = INFINITY;
    const Tensor y = run(*ops, x, *p.packed);
    for (int j = 0; j < 5; ++j) {
      EXPECT_TRUE(std::isfinite(y.data<float>()[j]));
      EXPECT_TRUE(std::isnan(y.data<float>()[5 + j]));
      EXPECT_FALSE(std::isfinite(y.data<float>()[10 + j]));
    }
  }
}

TEST_P(Few, NoRows) {
  const Problem p = make_problem(*ops, Kind::u4, DType::f32, 5, 16, 2);
  EXPECT_EQ(run(*ops, Tensor::empty(DType::f32, {0, 16}), *p.packed).numel(), 0);
}

TEST_P(Few, WrongShapesAreInternalErrors) {
  const WeightPtr w = ops->pack(random(DType::f32, {8, 16}, 1), WeightFormat::f32),
                  w8 = ops->pack(random(DType::f32, {8, 16}, 1), WeightFormat::s8);
  const auto code = [&](std::int64_t out, const Tensor& x, const Weight& weight) {
    try {
      ops->linear_few(ops->empty(x.dtype(), {out, 8}), device(x), weight, {});
    } catch (const Error& e) {
      return e.code();
    }
    return Exit::ok;
  };
  EXPECT_EQ(code(2, random(DType::f32, {2, 16}, 1), *w), Exit::ok);
  EXPECT_EQ(code(2, random(DType::f32, {2, 15}, 1), *w), Exit::internal);
  EXPECT_EQ(code(3, random(DType::f32, {2, 16}, 1), *w), Exit::internal);
  EXPECT_EQ(code(2, random(DType::bf16, {2, 16}, 1), *w), Exit::internal);
  EXPECT_EQ(code(17, random(DType::f32, {17, 16}, 1), *w), Exit::internal);
  EXPECT_EQ(code(2, random(DType::f32, {2, 16}, 1), *w8), Exit::internal);
}

TEST(FewThreads, DoNotChangeBits) {
  for (DType t : compute_dtypes) {
    for (Kind kind : kinds) {
      const Tensor x = random(t, {3, 900}, 1);
      Tensor first;
      for (int threads : {1, 2, 3, 8}) {  // enough bytes that threads are used
        const auto ops = make_cpu_ops(threads);
        const Tensor y = run(*ops, x, *make_problem(*ops, kind, t, 577, 900, 2).packed);
        if (!first) first = y;
        EXPECT_TRUE(same_bits(y, first)) << threads;
      }
    }
  }
}

// Other layouts of the library.
TEST(OlderProcessors, FewRowsAreRightToo) {
  if (std::getenv("ONEDNN_MAX_CPU_ISA") != nullptr) GTEST_SKIP() << "already restricted";
  const std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
  for (const char* isa : {"AVX2", "AVX512_CORE"}) {
    const std::string command =
        fmt::format("ONEDNN_MAX_CPU_ISA={} '{}' --gtest_filter='*/Few.*' > /dev/null", isa, self);
    EXPECT_EQ(std::system(command.c_str()), 0) << command;
  }
}

}  // namespace
}  // namespace ptq::testing

// Weights kept as integer codes: every product has the bits of the same product with the dequantized weight.
#include "coded_inputs.h"
#include "compare.h"

#include <cstdlib>
#include <filesystem>

namespace ptq::testing {
namespace {

using Coded = OpsTest;
PTQ_ON_ALL_BACKENDS(Coded);

// Both ways of multiplying x with w.
void expect_same(Ops& ops, const CodedWeight& w, DType t, std::int64_t rows, unsigned seed) {
  const std::int64_t n = w.codes.rows(), i = w.codes.cols();
  const Tensor x = ops.to_device(random(t, {rows, i}, seed));
  const Tensor b = seed % 3 == 0 ? Tensor() : ops.to_device(random(DType::f32, {n}, seed + 1));
  const auto run = [&](const WeightPtr& weight) {
    Guarded y(ops, t, {rows, n});
    ops.linear(y.tensor(), x, *weight, b);
    return y.read();
  };
  EXPECT_TRUE(same_bits(run(ops.pack_codes(w, t)), run(ops.pack(dequantized(w), float_format(t)))))
      << name_of(t) << ", " << w.bits << " bits, " << rows << " x " << i << " x " << n;
}

TEST_P(Coded, LinearIsThatOfTheDequantizedWeight) {
  unsigned seed = 1;
  for (DType t : compute_dtypes) {
    for (int bits : {2, 3, 4, 5, 8}) {
      for (auto [n, i] : {std::pair<int, int>{1, 1}, {37, 7}, {64, 64}, {130, 33}, {513, 100}, {1100, 257}}) {
        expect_same(*ops, random_codes(bits, n, i, seed % 3 == 0 ? -1 : 32, seed), t, awkward[seed % awkward.size()],
                    seed);
        ++seed;
      }
    }
  }
}

TEST_P(Coded, ColumnsMayBelongToAnyGroup) {
  for (DType t : compute_dtypes) {
    for (int bits : {4, 8}) {
      for (int group : {1, 16, 33}) {
        for (unsigned seed : {5, 6}) {
          expect_same(*ops, random_codes(bits, 150, 133, group, seed, Grouping::shuffled), t, 65, 7);
        }
      }
    }
  }
}

// Around tiles of 16 and 128 output rows, chunks of 64 columns and tiles of 64 and 128 rows; groups of whole chunks.
TEST_P(Coded, AroundTiles) {
  unsigned seed = 1;
  for (DType t : {DType::bf16, DType::f16}) {
    for (int bits : {4, 8}) {
      for (auto [rows, n, i] : {std::tuple<int, int, int>{1, 15, 64},
                                {63, 16, 128},
                                {64, 17, 192},
                                {65, 33, 65},
                                {127, 31, 320},
                                {128, 127, 64},
                                {129, 128, 63},
                                {130, 129, 256}}) {
        expect_same(*ops, random_codes(bits, n, i, seed % 3 == 0 ? -1 : 64, seed), t, rows, seed);
        ++seed;
      }
    }
  }
}

// Rows of x that do not begin at a multiple of 16 bytes, or not even at a multiple of 4.
TEST_P(Coded, AnyAlignmentOfX) {
  for (DType t : compute_dtypes) {
    for (std::int64_t i : {64, 72, 33, 66}) {
      const CodedWeight w = random_codes(4, 40, i, -1, 1);
      const Tensor x = random(t, {8, i}, 2), all = device(x);
      const WeightPtr coded = ops->pack_codes(w, t);
      Guarded from_slice(*ops, t, {5, 40}), from_copy(*ops, t, {5, 40});
      ops->linear(from_slice.tensor(), all.slice_rows(3, 8), *coded, {});
      ops->linear(from_copy.tensor(), device(x.slice_rows(3, 8).clone()), *coded, {});
      EXPECT_TRUE(same_bits(from_slice.read(), from_copy.read())) << name_of(t) << " " << i;
    }
  }
}

// What pads the columns must not become an infinity: 60000 (0 - 8) is none of f16.
TEST_P(Coded, LargeScales) {
  CodedWeight w = random_codes(4, 20, 70, -1, 2);
  for (float& scale : w.scales.span<float>()) scale = 60000.0f;
  for (float& zero : w.zeros.span<float>()) zero = 8.0f;
  for (std::uint8_t& code : w.codes.span<std::uint8_t>()) code = 7 + code % 3;
  expect_same(*ops, w, DType::f16, 3, 7);
}

// Zero points need not be integers, nor below the codes' range.
TEST_P(Coded, AnyZeroPoint) {
  CodedWeight w = random_codes(4, 70, 64, 16, 5);
  w.zeros = random(DType::f32, w.zeros.shape(), 6);
  w.zeros.data<float>()[0] = 16.0f;
  for (DType t : compute_dtypes) expect_same(*ops, w, t, 9, 7);
}

TEST_P(Coded, LogitsAndLogProbabilities) {
  const CodedWeight w = random_codes(4, 700, 48, 16, 3);
  for (DType t : compute_dtypes) {
    const WeightPtr coded = ops->pack_codes(w, t), floats = ops->pack(dequantized(w), float_format(t));
    const Tensor x = device(random(t, {65, 48}, 1));
    const auto logits = [&](const Weight& weight) {
      Guarded y(*ops, DType::f32, {65, 700});
      ops->logits(y.tensor(), x, weight, {0.5f, 30.0f});
      return y.read();
    };
    EXPECT_TRUE(same_bits(logits(*coded), logits(*floats)));
    std::vector<Target> targets;
    for (std::int32_t i = 0; i < 65; ++i) targets.push_back({i, i * 10});
    EXPECT_EQ(ops->token_logprobs(x, targets, *coded, {}), ops->token_logprobs(x, targets, *floats, {}));
  }
}

// Half a byte or a byte per code, and 4 bytes per grid of f16 numbers, else 8.
TEST_P(Coded, MemoryIsThatOfTheCodes) {
  for (auto [bits, format, per_code] : {std::tuple{3, WeightFormat::u4, 0.5},
                                        {4, WeightFormat::u4, 0.5},
                                        {5, WeightFormat::u8, 1.0},
                                        {8, WeightFormat::u8, 1.0}}) {
    for (unsigned seed : {1, 2}) {
      const WeightPtr w = ops->pack_codes(random_codes(bits, 576, 1536, 128, seed), DType::bf16);
      EXPECT_EQ(w->format(), format);
      EXPECT_EQ(w->out_features(), 576);
      EXPECT_EQ(w->in_features(), 1536);
      const double codes = 576 * 1536 * per_code, grids = 576 * 12 * (seed % 2 == 0 ? 4 : 8);
      EXPECT_GE(static_cast<double>(w->bytes()), codes + grids);
      EXPECT_LE(static_cast<double>(w->bytes()), 1.02 * (codes + grids));
    }
  }
}

TEST_P(Coded, RefusesWhatIsNotACodedWeight) {
  const auto code = [&](const std::function<void(CodedWeight&)>& change, DType t = DType::f32) {
    CodedWeight w = random_codes(4, 9, 20, 5, 1);
    change(w);
    try {
      ops->pack_codes(w, t);
    } catch (const Error& e) {
      return e.code();
    }
    return Exit::ok;
  };
  EXPECT_EQ(code([](CodedWeight&) {}), Exit::ok);
  EXPECT_EQ(code([](CodedWeight& w) { w.bits = 9; }), Exit::internal);
  EXPECT_EQ(code([](CodedWeight& w) { w.bits = 1; }), Exit::internal);
  EXPECT_EQ(code([](CodedWeight& w) { w.codes.data<std::uint8_t>()[179] = 16; }), Exit::internal);
  EXPECT_EQ(code([](CodedWeight& w) { w.g_idx.data<std::int32_t>()[3] = 4; }), Exit::internal);
  EXPECT_EQ(code([](CodedWeight& w) { w.g_idx.data<std::int32_t>()[3] = -1; }), Exit::internal);
  EXPECT_EQ(code([](CodedWeight& w) { w.g_idx = w.g_idx.slice_rows(0, 19); }), Exit::internal);
  EXPECT_EQ(code([](CodedWeight& w) { w.zeros = w.zeros.slice_rows(0, 8); }), Exit::internal);
  EXPECT_EQ(code([](CodedWeight&) {}, DType::i8), Exit::internal);
}

// Other layouts of the library.
TEST(OlderProcessors, CodesAreRightToo) {
  if (std::getenv("ONEDNN_MAX_CPU_ISA") != nullptr) GTEST_SKIP() << "already restricted";
  const std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
  for (const char* isa : {"AVX2", "AVX512_CORE"}) {
    const std::string command =
        fmt::format("ONEDNN_MAX_CPU_ISA={} '{}' --gtest_filter='*/Coded.*' > /dev/null", isa, self);
    EXPECT_EQ(std::system(command.c_str()), 0) << command;
  }
}

}  // namespace
}  // namespace ptq::testing

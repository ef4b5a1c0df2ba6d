// The GPTQ sweep against the specification written out, and sweep and inverse factor against stored results of the
// reference implementation (golden/quant/gptq_layer).
#include "golden_path.h"
#include "host/checkpoint.h"
#include "quant_reference.h"

#include <algorithm>
#include <numeric>

namespace ptq::testing {
namespace {

using Quant = OpsTest;
PTQ_ON_ALL_BACKENDS(Quant);

SweepResult run_sweep(Ops& ops, const Tensor& w, const Tensor& u, const SweepSpec& spec, const Tensor& scales = {},
                      const Tensor& zeros = {}, const Tensor& g_idx = {}) {
  const std::int64_t rows = w.rows(), groups = scales ? scales.cols() : groups_of(w.cols(), spec.group);
  Guarded q(ops, DType::f32, w.shape(), w), codes(ops, DType::u8, w.shape()), error(ops, DType::f64, {rows});
  Guarded s(ops, DType::f32, {rows, groups}, scales), z(ops, DType::f32, {rows, groups}, zeros);
  ops.gptq_sweep(q.tensor(), {codes.tensor(), s.tensor(), z.tensor()}, error.tensor(), ops.to_device(u), spec,
                 bool(scales), g_idx ? ops.to_device(g_idx) : g_idx);
  return {q.read(), codes.read(), s.read(), z.read(), error.read()};
}

Tensor upper_factor(Ops& ops, std::int64_t n, unsigned seed) {
  const std::vector<double> h = well_conditioned(n, seed);
  Tensor u = Tensor::empty(DType::f32, {n, n});
  for (std::int64_t i = 0; i < n * n; ++i) u.data<float>()[i] = static_cast<float>(h[static_cast<std::size_t>(i)]);
  const Tensor on_device = ops.to_device(u);
  EXPECT_TRUE(ops.factor_inverse(on_device));
  return ops.to_host(on_device);
}

// Not of a Hessian, but like one in size: the errors of a row spread evenly.
Tensor any_factor(std::int64_t n) {
  Tensor u = random(DType::f32, {n, n}, 9);
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      float& x = u.data<float>()[i * n + j];
      x = i > j ? 0.0f : i == j ? 1.0f + 0.1f * std::fabs(x) : x / std::sqrt(static_cast<float>(n));
    }
  }
  return u;
}

double equal_share(const Tensor& a, const Tensor& b) {
  std::int64_t equal = 0;
  for (std::int64_t i = 0; i < a.numel(); ++i) equal += element(a, i) == element(b, i) ? 1 : 0;
  return static_cast<double>(equal) / static_cast<double>(a.numel());
}

// U with entries in {0, 1, -1} and unit diagonal, weights and scales dyadic: every operation is exact, so any order of
// summation gives the same codes, and the test asks for equality.
TEST_P(Quant, SweepIsExactOnDyadicNumbers) {
  const std::int64_t columns = 200;
  Tensor u = Tensor::zeros(DType::f32, {columns, columns});
  std::mt19937 generator(5);
  for (std::int64_t i = 0; i < columns; ++i) {
    u.data<float>()[i * columns + i] = 1.0f;
    for (int n = 0; n < 3; ++n) {
      const std::int64_t j = i + 1 + generator() % 150;
      if (j < columns) u.data<float>()[i * columns + j] = generator() % 2 ? 1.0f : -1.0f;
    }
  }
  const Tensor g_idx = group_index(columns, 64);
  for (std::int64_t rows : awkward) {
    Tensor w = Tensor::empty(DType::f32, {rows, columns});
    for (float& x : w.span<float>()) x = static_cast<float>(static_cast<int>(generator() % 129) - 64) / 64.0f;
    Tensor scales = Tensor::empty(DType::f32, {rows, 4}), zeros = Tensor::empty(DType::f32, {rows, 4});
    for (float& x : scales.span<float>()) x = generator() % 2 ? 0.125f : 0.25f;
    for (float& x : zeros.span<float>()) x = static_cast<float>(generator() % 16);
    for (int block : {32, 128, 200, 1000}) {
      const SweepSpec spec{{4, false, false}, 64, block};
      const SweepResult got = run_sweep(*ops, w, u, spec, scales, zeros, g_idx);
      const SweepResult want = plain_sweep(w, u, spec, scales, zeros, g_idx);
      EXPECT_TRUE(same_bits(got.codes, want.codes)) << rows << " " << block;
      EXPECT_TRUE(same_bits(got.w, want.w));
      EXPECT_TRUE(same_bits(got.row_error, want.row_error));
    }
  }
}

// Group and block sizes that do not divide each other: groups starting inside a block, longer than a block, tails.
TEST_P(Quant, SweepGroupsAndBlocks) {
  const std::int64_t columns = 200, rows = 50;
  const Tensor u = upper_factor(*ops, columns, 3), w = random(DType::f32, {rows, columns}, 4);
  for (std::int64_t group : {16, 50, 64, 128, 200}) {
    for (int block : {32, 64, 128}) {
      for (bool symmetric : {true, false}) {
        const SweepSpec spec{{4, symmetric, false}, group, block};
        const SweepResult got = run_sweep(*ops, w, u, spec), want = plain_sweep(w, u, spec, {}, {}, {});
        // Only the trailing update's order of summation may differ: golden README, codes >= 99.5 %.
        EXPECT_GE(equal_share(got.codes, want.codes), 0.995) << group << " " << block;
        // The first group of the first block sees no update at all.
        for (std::int64_t r = 0; r < rows; ++r) {
          const std::int64_t groups = groups_of(columns, group);
          EXPECT_EQ(got.scales.data<float>()[r * groups], want.scales.data<float>()[r * groups]);
        }
        double a = 0.0, b = 0.0;
        for (std::int64_t r = 0; r < rows; ++r) {
          a += got.row_error.data<double>()[r];
          b += want.row_error.data<double>()[r];
        }
        EXPECT_NEAR(a, b, 5e-3 * b);
      }
    }
  }
}

TEST_P(Quant, SweepPerRowGridsComeFromTheInput) {
  const Tensor u = upper_factor(*ops, 64, 3), w = random(DType::f32, {20, 64}, 4);
  const Tensor s = ops->empty(DType::f32, {20, 1}), z = ops->empty(DType::f32, {20, 1});
  ops->group_grids(s, z, device(w), {}, -1);
  const SweepResult got = run_sweep(*ops, w, u, {{}, -1, 32});
  EXPECT_TRUE(same_bits(got.scales, ops->to_host(s)));
  const SweepResult given = run_sweep(*ops, w, u, {{}, -1, 32}, ops->to_host(s), ops->to_host(z), group_index(64, -1));
  EXPECT_TRUE(same_bits(got.codes, given.codes));
}

TEST_P(Quant, NonFiniteWeightsShowInTheRowError) {
  const Tensor u = upper_factor(*ops, 64, 3);
  Tensor w = random(DType::f32, {4, 64}, 4);
  w.data<float>()[64 + 10] = NAN;
  w.data<float>()[3 * 64 + 63] = INFINITY;
  const SweepResult got = run_sweep(*ops, w, u, {{}, 32, 32});
  for (int r = 0; r < 4; ++r) EXPECT_EQ(std::isfinite(got.row_error.data<double>()[r]), r % 2 == 0) << r;
}

// The order and rounding of every operation are fixed (host/cpu/gptq.cpp): given the same U, all backends give the same
// bits. Tiles of 8, 32, 64, 128 and 512, and what is next to them; columns not a multiple of four, so that rows are not
// aligned; blocks wider than a tile.
TEST_P(Quant, SweepHasTheBitsOfTheCpu) {
  struct Case {
    std::int64_t rows, columns, group;
    int block, bits;
    bool symmetric;
  };
  const auto cpu = make_cpu_ops(1);
  for (const Case& c :
       {Case{1, 1, -1, 128, 4, true}, Case{33, 7, 4, 3, 3, false}, Case{31, 129, 128, 128, 4, true},
        Case{32, 131, 32, 64, 8, false}, Case{40, 644, 128, 128, 4, false}, Case{33, 645, 96, 50, 2, true},
        Case{65, 300, 100, 136, 4, false}, Case{7, 260, 1000, 260, 5, true}, Case{5, 1160, 64, 128, 4, true}}) {
    const Tensor w = random(DType::f32, {c.rows, c.columns}, 17), u = any_factor(c.columns);
    SCOPED_TRACE(::testing::Message() << c.rows << " x " << c.columns << " group " << c.group << " block " << c.block);
    const SweepSpec spec{{c.bits, c.symmetric, false}, c.group, c.block};
    const SweepResult got = run_sweep(*ops, w, u, spec), want = run_sweep(*cpu, w, u, spec);
    EXPECT_TRUE(same_bits(got.codes, want.codes));
    EXPECT_TRUE(same_bits(got.w, want.w));
    EXPECT_TRUE(same_bits(got.scales, want.scales));
    EXPECT_TRUE(same_bits(got.zeros, want.zeros));
    for (std::int64_t r = 0; r < c.rows; ++r) {
      EXPECT_NEAR(element(got.row_error, r), element(want.row_error, r), 1e-12 * element(want.row_error, r));
    }
    // Groups of another order, as act-order leaves them.
    Tensor g_idx = Tensor::empty(DType::i32, {c.columns});
    std::mt19937 generator(23);
    for (std::int32_t& g : g_idx.span<std::int32_t>()) {
      g = static_cast<std::int32_t>(generator() % static_cast<unsigned>(want.scales.cols()));
    }
    const SweepResult a = run_sweep(*ops, w, u, spec, want.scales, want.zeros, g_idx);
    const SweepResult b = run_sweep(*cpu, w, u, spec, want.scales, want.zeros, g_idx);
    EXPECT_TRUE(same_bits(a.codes, b.codes));
    EXPECT_TRUE(same_bits(a.w, b.w));
  }
}

// W and U as slices of larger matrices, so that they begin at odd addresses.
TEST_P(Quant, SweepOfUnalignedMatrices) {
  const std::int64_t columns = 136, rows = 33;
  const Tensor u = upper_factor(*ops, columns, 3), w = random(DType::f32, {rows, columns}, 4);
  const auto shifted = [&](const Tensor& t) {
    Tensor longer = Tensor::zeros(DType::f32, {t.numel() + 1});
    std::copy_n(t.data<float>(), t.numel(), longer.data<float>() + 1);
    return device(longer).slice_rows(1, t.numel() + 1).reshape(t.shape());
  };
  const SweepSpec spec{{4, false, false}, 48, 64};
  const SweepResult want = run_sweep(*ops, w, u, spec);
  const Tensor q = shifted(w), s = ops->empty(DType::f32, {rows, 3}), z = ops->empty(DType::f32, {rows, 3});
  const Tensor codes = ops->empty(DType::u8, {rows, columns}), error = ops->empty(DType::f64, {rows});
  ops->gptq_sweep(q, {codes, s, z}, error, shifted(u), spec, false, {});
  EXPECT_TRUE(same_bits(ops->to_host(q), want.w));
  EXPECT_TRUE(same_bits(ops->to_host(codes), want.codes));
  EXPECT_TRUE(same_bits(ops->to_host(error), want.row_error));
}

TEST_P(Quant, SweepSearchesItsRanges) {
  const Tensor u = upper_factor(*ops, 64, 3), w = random(DType::f32, {20, 64}, 4);
  const Tensor s = ops->empty(DType::f32, {20, 1}), z = ops->empty(DType::f32, {20, 1});
  ops->group_grids(s, z, device(w), {3, false, true}, -1);
  const SweepResult got = run_sweep(*ops, w, u, {{3, false, true}, -1, 32});
  EXPECT_TRUE(same_bits(got.scales, ops->to_host(s)));
  EXPECT_FALSE(same_bits(got.scales, run_sweep(*ops, w, u, {{3, false, false}, -1, 32}).scales));
}

TEST_P(Quant, SweepRefusesGroupsThatDoNotExist) {
  const Tensor u = upper_factor(*ops, 8, 3), w = random(DType::f32, {2, 8}, 4), ones = random(DType::f32, {2, 2}, 1);
  for (const std::int32_t wrong : {-1, 2}) {
    Tensor g_idx = group_index(8, 4);
    g_idx.data<std::int32_t>()[5] = wrong;
    EXPECT_THROW(run_sweep(*ops, w, u, {{}, 4, 8}, ones, ones, g_idx), Error);
  }
}

// --- stored results of the reference implementation -------------------------------------------------------------

// Codes of a case (4 bit, group 64 or none) given the reference's own U: only the sweep is compared.
void compare_sweep(Ops& ops, const Checkpoint& file, const std::string& layer, const std::string& name) {
  const auto read = [&](const std::string& tensor) { return file.read(tensor, file.tensors().at(tensor).dtype); };
  const Tensor w = read("W"), u = read(name + ".U"), codes = read(name + ".codes");
  const Tensor scales = read(name + ".scales"), zeros = read(name + ".zeros"), error = read(name + ".err_rows");
  const std::int64_t columns = w.cols();
  Tensor ordered = w;
  std::vector<std::int32_t> perm(static_cast<std::size_t>(columns));
  std::iota(perm.begin(), perm.end(), 0);
  if (file.tensors().contains(name + ".perm")) {
    const Tensor p = read(name + ".perm");
    perm.assign(p.data<std::int32_t>(), p.data<std::int32_t>() + columns);
    ordered = w.clone();
    for (std::int64_t r = 0; r < w.rows(); ++r) {
      for (std::int64_t c = 0; c < columns; ++c) {
        ordered.data<float>()[r * columns + c] = w.data<float>()[r * columns + perm[static_cast<std::size_t>(c)]];
      }
    }
  }
  const std::int64_t group = scales.cols() == 1 ? -1 : 64;
  bool symmetric = true;
  for (float z : zeros.span<float>()) symmetric &= z == 8.0f;
  const SweepResult got = run_sweep(ops, ordered, u, {{4, symmetric, false}, group, 128});
  if (group == -1) {
    EXPECT_TRUE(same_bits(got.scales, scales));
  }
  EXPECT_TRUE(same_bits(got.zeros, zeros));
  std::int64_t equal = 0;
  double total = 0.0, want = 0.0;
  for (std::int64_t r = 0; r < w.rows(); ++r) {
    for (std::int64_t c = 0; c < columns; ++c) {
      equal += got.codes.data<std::uint8_t>()[r * columns + c] ==
               codes.data<std::uint8_t>()[r * columns + perm[static_cast<std::size_t>(c)]];
    }
    total += got.row_error.data<double>()[r];
    want += error.data<float>()[r];
  }
  const double share = static_cast<double>(equal) / static_cast<double>(w.numel());
  EXPECT_GE(share, 0.995) << name;
  EXPECT_NEAR(total, want, 5e-3 * want) << name;
  ::testing::Test::RecordProperty(layer + name + "_codes_equal", std::to_string(share));
}

TEST_P(Quant, GoldenSweepAndFactor) {
  PTQ_NEED(directory, "PTQ_GOLDEN", "quant/gptq_layer");
  for (const char* layer : {"L1", "L4", "L5", "L6"}) {
    const auto file = open_safetensors(directory / (std::string(layer) + ".safetensors"));
    for (const std::string name : {"c00", "c01"}) {
      if (!file->tensors().contains(name + ".U")) continue;
      SCOPED_TRACE(std::string(layer) + " " + name);
      compare_sweep(*ops, *file, layer, name);
      // Our factor of the damped H against the stored one.
      Tensor h = file->read("H", DType::f32);
      const Tensor u = file->read(name + ".U", DType::f32);
      const std::int64_t n = h.rows();
      if (file->tensors().contains(name + ".perm")) {
        const Tensor p = file->read(name + ".perm", DType::i32);
        Tensor ordered = h.clone();
        for (std::int64_t i = 0; i < n; ++i) {
          for (std::int64_t j = 0; j < n; ++j) {
            ordered.data<float>()[i * n + j] =
                h.data<float>()[p.data<std::int32_t>()[i] * n + p.data<std::int32_t>()[j]];
          }
        }
        h = ordered;
      }
      double mean = 0.0;
      for (std::int64_t i = 0; i < n; ++i) mean += h.data<float>()[i * n + i] / static_cast<double>(n);
      for (std::int64_t i = 0; i < n; ++i) h.data<float>()[i * n + i] += static_cast<float>(0.01 * mean);
      const Tensor on_device = device(h);
      ASSERT_TRUE(ops->factor_inverse(on_device));
      const Tensor got = ops->to_host(on_device);
      double worst = 0.0, top = 0.0;
      for (std::int64_t i = 0; i < n * n; ++i) {
        worst = std::max(worst, std::fabs(element(got, i) - element(u, i)));
        top = std::max(top, std::fabs(element(u, i)));
      }
      EXPECT_LE(worst, 1e-3 * top);
      RecordProperty(std::string(layer) + name + "_factor", std::to_string(worst / top));
    }
  }
}

}  // namespace
}  // namespace ptq::testing

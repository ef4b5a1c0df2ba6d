// Linears, logits, log-probabilities, int8 products and Gram matrices against double precision.
#include "backends.h"
#include "coded_inputs.h"
#include "reference.h"

#include <cstdlib>
#include <filesystem>

namespace ptq::testing {
namespace {

using Products = OpsTest;
PTQ_ON_ALL_BACKENDS(Products);

WeightFormat format_of(DType t) {
  return t == DType::f32 ? WeightFormat::f32 : t == DType::bf16 ? WeightFormat::bf16 : WeightFormat::f16;
}

constexpr DType activations[] = {DType::f32, DType::bf16, DType::f16};

Tensor run_linear(Ops& ops, const Tensor& x, const Tensor& w, const Tensor& b) {
  const WeightPtr packed = ops.pack(w, format_of(x.dtype()));
  Guarded y(ops, x.dtype(), {x.rows(), w.rows()});
  ops.linear(y.tensor(), ops.to_device(x), *packed, b ? ops.to_device(b) : b);
  return y.read();
}

TEST_P(Products, LinearAtAwkwardShapes) {
  unsigned seed = 1;
  for (DType t : activations) {
    for (std::int64_t rows : awkward) {
      for (auto [n, width] : {std::pair<int, int>{1, 1}, {1, 129}, {37, 7}, {64, 64}, {130, 33}, {513, 100}}) {
        const Tensor x = random(t, {rows, width}, ++seed), w = random(t, {n, width}, ++seed);
        const Tensor b = seed % 4 == 0 ? Tensor() : random(DType::f32, {n}, ++seed);
        EXPECT_TRUE(near(run_linear(*ops, x, w, b), linear(x, w, b, t)))
            << name_of(t) << " " << rows << " x " << width << " x " << n;
      }
    }
  }
}

TEST_P(Products, LinearIsExactOnSmallIntegers) {
  for (DType t : activations) {
    // |sum| <= 9 * 27 = 243, which every format holds exactly.
    const Tensor x = random(t, {70, 27}, 5, Data::small_integers), w = random(t, {1030, 27}, 6, Data::small_integers);
    Expected want = linear(x, w, {}, t);
    std::fill(want.bound.begin(), want.bound.end(), 0.0);
    EXPECT_TRUE(near(run_linear(*ops, x, w, {}), want)) << name_of(t);
  }
}

// A copy on the device that begins one element after a well aligned address.
Tensor misaligned(Ops& ops, const Tensor& t) {
  Tensor flat = Tensor::zeros(t.dtype(), {t.numel() + 1});
  std::memcpy(flat.slice_rows(1, t.numel() + 1).raw(), t.raw(), t.bytes());
  return ops.to_device(flat).slice_rows(1, t.numel() + 1).reshape(t.shape());
}

// Views at any address, of odd and even widths, give the bits of their copies.
TEST_P(Products, LinearOfMisalignedViews) {
  unsigned seed = 70;
  for (DType t : activations) {
    for (auto [n, width] : {std::pair<int, int>{64, 64}, {72, 33}, {37, 40}, {8, 1}}) {
      const Tensor x = random(t, {9, width}, ++seed), w = random(t, {n, width}, ++seed);
      const Tensor b = random(DType::f32, {n}, ++seed);
      const WeightPtr packed = ops->pack(w, format_of(t));
      Guarded y(*ops, t, {9 * n + 1});
      const Tensor inside = y.tensor().slice_rows(1, 9 * n + 1).reshape({9, n});
      ops->linear(inside, misaligned(*ops, x), *packed, misaligned(*ops, b));
      EXPECT_TRUE(same_bits(y.read().slice_rows(1, 9 * n + 1).reshape({9, n}), run_linear(*ops, x, w, b)))
          << name_of(t) << " " << width << " x " << n;
      const Tensor last = device(x).slice_rows(8, 9), alone = ops->empty(t, {1, n});
      ops->linear(alone, last, *packed, device(b));
      EXPECT_TRUE(same_bits(ops->to_host(alone), run_linear(*ops, x.slice_rows(8, 9).clone(), w, b)));
    }
  }
}

// So many outputs that a GPU takes larger tiles: the bits of fewer rows, which it takes in small ones.
TEST_P(Products, LinearOfManyOutputs) {
  constexpr std::int64_t rows = 257, n = 33 * 256 - 3;
  for (DType t : activations) {
    const Tensor x = random(t, {rows, 9}, 1), w = random(t, {n, 9}, 2), b = random(DType::f32, {n}, 3);
    const Tensor all = run_linear(*ops, x, w, b);
    for (auto [begin, end] : {std::pair<int, int>{0, 70}, {127, 130}, {200, 257}}) {
      EXPECT_TRUE(same_bits(run_linear(*ops, x.slice_rows(begin, end), w, b), all.slice_rows(begin, end)))
          << name_of(t) << " rows " << begin << " to " << end;
    }
  }
}

TEST_P(Products, LinearKeepsNonFinite) {
  Tensor x = random(DType::f32, {3, 16}, 1);
  const Tensor w = random(DType::f32, {5, 16}, 2, Data::positive);
  x.data<float>()[16] = NAN;
  x.data<float>()[2 * 16] = INFINITY;
  const Tensor y = run_linear(*ops, x, w, {});
  for (int j = 0; j < 5; ++j) {
    EXPECT_TRUE(std::isfinite(y.data<float>()[j]));
    EXPECT_TRUE(std::isnan(y.data<float>()[5 + j]));
    EXPECT_EQ(y.data<float>()[10 + j], INFINITY);
  }
}

TEST_P(Products, PackReportsItsSize) {
  const Tensor w = random(DType::f32, {576, 192}, 3);
  for (auto [format, element] : {std::pair{WeightFormat::f32, 4.0},
                                 {WeightFormat::bf16, 2.0},
                                 {WeightFormat::f16, 2.0},
                                 {WeightFormat::s8, 1.0}}) {
    const WeightPtr p = ops->pack(w, format);
    EXPECT_EQ(p->out_features(), 576);
    EXPECT_EQ(p->in_features(), 192);
    EXPECT_EQ(p->format(), format);
    const double bytes = element * 576 * 192;
    EXPECT_GE(static_cast<double>(p->bytes()), bytes);
    EXPECT_LE(static_cast<double>(p->bytes()), 1.25 * bytes + 4096);
  }
}

// A weight that was computed on the device is laid out there: the same rounding and padding as on the host.
TEST_P(Products, LinearOfAWeightPackedOnTheDevice) {
  for (auto [i, from] : {std::pair{37, DType::f32}, {64, DType::f32}, {37, DType::bf16}, {37, DType::f16}}) {
    const Tensor w = random(from, {29, i}, 4);
    for (const DType t : activations) {
      const WeightFormat format = t == DType::f32    ? WeightFormat::f32
                                  : t == DType::bf16 ? WeightFormat::bf16
                                                     : WeightFormat::f16;
      const Tensor x = device(random(t, {5, i}, 5)), from_host = ops->empty(t, {5, 29}),
                   from_device = ops->empty(t, {5, 29});
      ops->linear(from_host, x, *ops->pack(w, format), {});
      ops->linear(from_device, x, *ops->pack(device(w), format), {});
      EXPECT_TRUE(same_bits(ops->to_host(from_device), ops->to_host(from_host)))
          << name_of(t) << " I " << i << " of " << name_of(from);
    }
  }
}

TEST_P(Products, WrongShapesAreInternalErrors) {
  const WeightPtr w = ops->pack(random(DType::f32, {8, 16}, 1), WeightFormat::f32);
  const Tensor y = ops->empty(DType::f32, {2, 8});
  const auto code = [&](const Tensor& out, const Tensor& x) {
    try {
      ops->linear(out, x, *w, {});
    } catch (const Error& e) {
      return e.code();
    }
    return Exit::ok;
  };
  EXPECT_EQ(code(y, device(random(DType::f32, {2, 15}, 1))), Exit::internal);
  EXPECT_EQ(code(y, device(random(DType::f32, {3, 16}, 1))), Exit::internal);
  EXPECT_EQ(code(y, device(random(DType::bf16, {2, 16}, 1))), Exit::internal);
  EXPECT_EQ(code(y, device(random(DType::f32, {2, 16}, 1))), Exit::ok);
}

TEST_P(Products, QuantizeRows) {
  for (DType t : activations) {
    Tensor x = random(DType::f32, {5, 130}, 7);
    for (int i = 0; i < 130; ++i) x.data<float>()[130 + i] = 0.0f;    // an empty row: scale 1e-5 / 127
    for (int i = 0; i < 130; ++i) x.data<float>()[260 + i] *= 1e-7f;  // below the floor
    for (int i = 0; i < 130; ++i) x.data<float>()[390 + i] = i == 0 ? 127.0f : static_cast<float>(i) - 64.5f;  // ties
    x = x.to(t);
    const Int8Rows q = ops->quantize_rows(device(x));
    const Tensor codes = ops->to_host(q.codes), scales = ops->to_host(q.scales);
    for (std::int64_t r = 0; r < 5; ++r) {
      float absmax = 0.0f;
      for (std::int64_t i = 0; i < 130; ++i)
        absmax = std::max(absmax, static_cast<float>(std::fabs(element(x, r * 130 + i))));
      const float scale = std::max(absmax, 1e-5f) / 127.0f;
      EXPECT_EQ(scales.data<float>()[r], scale);
      for (std::int64_t i = 0; i < 130; ++i) {
        const auto v = static_cast<float>(element(x, r * 130 + i));
        EXPECT_EQ(codes.data<std::int8_t>()[r * 130 + i], static_cast<int>(std::nearbyint(v / scale))) << r << " " << i;
      }
    }
  }
}

TEST_P(Products, QuantizeRowsMarksNonFiniteRows) {
  Tensor x = random(DType::f32, {3, 40}, 7);
  x.data<float>()[45] = NAN;
  x.data<float>()[81] = -INFINITY;
  const Tensor scales = ops->to_host(ops->quantize_rows(device(x)).scales);
  EXPECT_TRUE(std::isfinite(scales.data<float>()[0]));
  EXPECT_TRUE(std::isnan(scales.data<float>()[1]));
  EXPECT_TRUE(std::isnan(scales.data<float>()[2]));
}

// Fewer bits, and ranges that are given: per tensor, static, too small for some values.
TEST_P(Products, QuantizeRowsToGivenRanges) {
  for (DType t : activations) {
    const Tensor x = random(t, {20, 130}, 7), given = random(DType::f32, {20}, 8, Data::positive);
    Guarded absmax(*ops, DType::f32, {20});
    ops->row_absmax(absmax.tensor(), device(x));
    const Tensor own = absmax.read();
    for (int bits : {2, 4, 8}) {
      const auto most = static_cast<float>((1 << (bits - 1)) - 1);
      for (bool fixed : {false, true}) {
        const Tensor range = fixed ? device(given) : Tensor();
        const Int8Rows q = ops->quantize_rows(device(x), bits, range);
        const Tensor codes = ops->to_host(q.codes), scales = ops->to_host(q.scales);
        Guarded y(*ops, t, x.shape());
        ops->fake_quantize_rows(y.tensor(), device(x), bits, range);
        const Tensor fake = y.read();
        Guarded same(*ops, t, x.shape(), x);
        ops->fake_quantize_rows(same.tensor(), same.tensor(), bits, range);
        EXPECT_TRUE(same_bits(same.read(), fake));
        Expected want{x.shape(), {}, std::vector<double>(static_cast<std::size_t>(x.numel()), 0.0)};
        for (std::int64_t r = 0; r < 20; ++r) {
          float largest = 0.0f;
          for (std::int64_t i = 0; i < 130; ++i)
            largest = std::max(largest, static_cast<float>(std::fabs(element(x, r * 130 + i))));
          EXPECT_EQ(own.data<float>()[r], largest);
          const float scale = std::max(fixed ? given.data<float>()[r] : largest, 1e-5f) / most;
          EXPECT_EQ(scales.data<float>()[r], scale);
          for (std::int64_t i = 0; i < 130; ++i) {
            const auto v = static_cast<float>(element(x, r * 130 + i));
            const float code = std::clamp(std::nearbyint(v / scale), -most, most);
            EXPECT_EQ(codes.data<std::int8_t>()[r * 130 + i], static_cast<int>(code));
            want.value.push_back(element(Tensor::of<float>({code * scale}, {1}).to(t), 0));
          }
        }
        EXPECT_TRUE(near(fake, want)) << name_of(t) << " " << bits;
      }
    }
  }
}

TEST_P(Products, QuantizeRowsRefusesOtherWidths) {
  const Tensor x = device(random(DType::f32, {4, 8}, 1)), range = device(random(DType::f32, {3}, 1, Data::positive));
  for (int bits : {1, 9}) EXPECT_THROW(ops->quantize_rows(x, bits), Error);
  EXPECT_THROW(ops->quantize_rows(x, 8, range), Error);
}

// A NaN or infinity is never clamped into a number, nor is a NaN range.
TEST_P(Products, FakeQuantizeRowsKeepsNonFinite) {
  Tensor x = random(DType::f32, {4, 40}, 7), range = random(DType::f32, {4}, 8, Data::positive);
  x.data<float>()[45] = NAN;
  x.data<float>()[81] = INFINITY;
  range.data<float>()[3] = NAN;
  Guarded y(*ops, DType::f32, x.shape());
  ops->fake_quantize_rows(y.tensor(), device(x), 8, device(range));
  const Tensor fake = y.read();
  for (int r = 0; r < 4; ++r) {
    for (int i = 0; i < 40; ++i) EXPECT_EQ(std::isnan(fake.data<float>()[r * 40 + i]), r > 0) << r;
  }
}

// Given codes, -128 among them, are multiplied as the codes that pack() computes.
TEST_P(Products, PackS8TakesCodesAsTheyAre) {
  for (auto [n, width] : {std::pair<int, int>{1, 1}, {37, 130}, {576, 200}}) {
    const Tensor w = random(DType::f32, {n, width}, 3);
    const Int8Rows x = ops->quantize_rows(device(random(DType::f32, {9, width}, 4)));
    const Int8Rows wq = ops->quantize_rows(device(w));
    const auto run = [&](const WeightPtr& weight) {
      Guarded y(*ops, DType::f32, {9, n});
      ops->linear_s8(y.tensor(), x, *weight, {});
      return y.read();
    };
    const Tensor codes = ops->to_host(wq.codes).clone(), scales = ops->to_host(wq.scales);
    EXPECT_TRUE(same_bits(run(ops->pack_s8(codes, scales)), run(ops->pack(w, WeightFormat::s8))));
    std::fill(codes.span<std::int8_t>().begin(), codes.span<std::int8_t>().end(), std::int8_t{-128});
    const Tensor xc = ops->to_host(x.codes), y = run(ops->pack_s8(codes, scales));
    for (std::int64_t t = 0; t < 9; ++t) {
      int sum = 0;
      for (std::int64_t k = 0; k < width; ++k) sum += -128 * xc.data<std::int8_t>()[t * width + k];
      const float scale = ops->to_host(x.scales).data<float>()[t] * scales.data<float>()[0];
      EXPECT_EQ(y.data<float>()[t * n], static_cast<float>(sum) * scale);
    }
  }
}

// LLM.int8(): columns beside the codes, multiplied in fp32.
TEST_P(Products, LinearS8WithOutlierColumns) {
  unsigned seed = 51;
  for (DType t : activations) {
    for (auto [rows, n, width] : {std::tuple{1, 1, 1}, {7, 37, 130}, {65, 513, 64}, {130, 70, 300}}) {
      const Tensor w = random(DType::f32, {n, width}, ++seed), b = random(DType::f32, {n}, ++seed);
      Int8Rows x = ops->quantize_rows(device(random(DType::f32, {rows, width}, ++seed)));
      std::vector<std::int32_t> columns;
      for (std::int32_t k = 0; k < width; k += 9) columns.push_back(k);
      const auto count = static_cast<std::int64_t>(columns.size());
      const Tensor codes = ops->to_host(x.codes).clone(), outliers = random(DType::f32, {rows, count}, ++seed);
      for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t c = 0; c < count; ++c) {
          const bool kept = (r + c) % 3 == 0;  // as a code
          if (kept) outliers.data<float>()[r * count + c] = 0.0f;
          if (!kept) codes.data<std::int8_t>()[r * width + columns[static_cast<std::size_t>(c)]] = 0;
        }
      }
      x.codes = device(codes);
      x.outliers = device(outliers);
      x.outlier_columns = device(indices(columns));
      const Int8Rows wq = ops->quantize_rows(device(w));
      const Tensor wc = ops->to_host(wq.codes), ws = ops->to_host(wq.scales), xs = ops->to_host(x.scales);
      Collector want({rows, n}, t);
      for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t j = 0; j < n; ++j) {
          const double sw = ws.data<float>()[j];
          double exact = 0.0, sum = element(b, j), magnitude = std::fabs(sum);
          for (std::int64_t k = 0; k < width; ++k) exact += element(codes, r * width + k) * element(wc, j * width + k);
          exact *= sw * xs.data<float>()[r];
          sum += exact;
          magnitude += std::fabs(exact);
          for (std::int64_t c = 0; c < count; ++c) {
            const double p =
                element(outliers, r * count + c) * element(wc, j * width + columns[static_cast<std::size_t>(c)]) * sw;
            sum += p;
            magnitude += std::fabs(p);
          }
          want.add(sum, magnitude, static_cast<double>(count + 2));
        }
      }
      Guarded y(*ops, t, {rows, n});
      ops->linear_s8(y.tensor(), x, *ops->pack(w, WeightFormat::s8), device(b));
      EXPECT_TRUE(near(y.read(), want.take())) << name_of(t) << " " << rows << " x " << width << " x " << n;
    }
  }
}

// The integer product is exact, so only the epilogue rounds: s_x * s_w, times the sum, plus b.
TEST_P(Products, LinearS8IsExactInItsSums) {
  unsigned seed = 11;
  for (std::int64_t rows : awkward) {
    for (auto [n, width] : {std::pair<int, int>{1, 1}, {37, 130}, {513, 64}, {70, 3001}}) {
      Tensor w = random(DType::f32, {n, width}, ++seed);
      Int8Rows x{Tensor::empty(DType::i8, {rows, width}), random(DType::f32, {rows}, ++seed, Data::positive), {}, {}};
      std::mt19937 generator(++seed);
      for (std::int8_t& code : x.codes.span<std::int8_t>()) {
        code = static_cast<std::int8_t>(static_cast<int>(generator() % 255) - 127);
      }
      // The worst case of a saturating implementation: the largest codes side by side.
      for (int k = 0; k < width; ++k) {
        x.codes.data<std::int8_t>()[k] = 127;
        w.data<float>()[k] = 2.0f;
      }
      const Tensor b = seed % 2 ? Tensor() : random(DType::f32, {n}, ++seed);
      Expected want{{rows, n}, {}, {}};
      const Int8Rows wq = ops->quantize_rows(device(w));
      const Tensor wc = ops->to_host(wq.codes), ws = ops->to_host(wq.scales);
      for (std::int64_t t = 0; t < rows; ++t) {
        for (std::int64_t j = 0; j < n; ++j) {
          std::int64_t sum = 0;
          for (std::int64_t k = 0; k < width; ++k) {
            sum += x.codes.data<std::int8_t>()[t * width + k] * wc.data<std::int8_t>()[j * width + k];
          }
          const double product = static_cast<double>(sum) * x.scales.data<float>()[t] * ws.data<float>()[j];
          want.value.push_back(product + (b ? b.data<float>()[j] : 0.0));
          want.bound.push_back(unit * (3.0 * std::fabs(product) + std::fabs(want.value.back())));
        }
      }
      Guarded y(*ops, DType::f32, {rows, n});
      const Int8Rows on_device{device(x.codes), device(x.scales), {}, {}};
      ops->linear_s8(y.tensor(), on_device, *ops->pack(w, WeightFormat::s8), b ? device(b) : b);
      EXPECT_TRUE(near(y.read(), want)) << rows << " x " << width << " x " << n;
    }
  }
}

// Rows with outlier columns, random codes and a bias, for products whose sums are compared bit for bit.
struct Int8Case {
  Int8Rows x;  // on the host
  Tensor w, b;

  Int8Case(std::int64_t rows, std::int64_t n, std::int64_t width, unsigned seed)
      : w(random(DType::f32, {n, width}, seed)), b(random(DType::f32, {n}, seed + 1)) {
    const std::vector<std::int32_t> columns{0, static_cast<std::int32_t>(width / 2),
                                            static_cast<std::int32_t>(width - 1)};
    x = {Tensor::empty(DType::i8, {rows, width}), random(DType::f32, {rows}, seed + 2, Data::positive),
         random(DType::f32, {rows, 3}, seed + 3), indices(columns)};
    std::mt19937 generator(seed);
    for (std::int8_t& code : x.codes.span<std::int8_t>())
      code = static_cast<std::int8_t>(static_cast<int>(generator() % 255) - 127);
  }
  Int8Rows rows(std::int64_t begin, std::int64_t end) const {
    return {x.codes.slice_rows(begin, end), x.scales.slice_rows(begin, end), x.outliers.slice_rows(begin, end),
            x.outlier_columns};
  }
};

Tensor run_linear_s8(Ops& ops, const Int8Rows& x, const Weight& w, const Tensor& b, DType t) {
  Guarded y(ops, t, {x.codes.rows(), w.out_features()});
  const auto device = [&](const Tensor& host) { return ops.to_device(host); };
  ops.linear_s8(y.tensor(), {device(x.codes), device(x.scales), device(x.outliers), device(x.outlier_columns)}, w,
                device(b));
  return y.read();
}

// One order of arithmetic: the scales' product, the outliers' chain, the bias.
TEST_P(Products, LinearS8HasTheBitsOfTheCpu) {
  const auto cpu = make_cpu_ops(1);
  unsigned seed = 81;
  for (DType t : activations) {
    for (auto [rows, n, width] : {std::tuple{1, 1, 1}, {16, 32, 256}, {17, 31, 257}, {64, 33, 1030}, {65, 520, 80}}) {
      const Int8Case c(rows, n, width, ++seed);
      const WeightPtr w = ops->pack(c.w, WeightFormat::s8), reference = cpu->pack(c.w, WeightFormat::s8);
      EXPECT_TRUE(same_bits(run_linear_s8(*ops, c.x, *w, c.b, t), run_linear_s8(*cpu, c.x, *reference, c.b, t)))
          << name_of(t) << " " << rows << " x " << width << " x " << n;
    }
  }
}

// A product large enough for every way of tiling: rows alone, a few at a time and all together have the same bits.
TEST_P(Products, LinearS8OfAnyNumberOfRowsIsTheSame) {
  const auto same = [&](std::int64_t n, std::int64_t width, DType t) {
    const Int8Case c(1409, n, width, 91);
    const WeightPtr w = ops->pack(c.w, WeightFormat::s8);
    const Tensor all = run_linear_s8(*ops, c.x, *w, c.b, t);
    for (auto [begin, end] : {std::pair<int, int>{0, 16}, {120, 129}, {600, 700}, {1023, 1024}, {1400, 1409}}) {
      EXPECT_TRUE(same_bits(run_linear_s8(*ops, c.rows(begin, end), *w, c.b, t), all.slice_rows(begin, end)))
          << name_of(t) << " " << n << " " << begin << " " << end;
    }
  };
  same(1400, 272, DType::bf16);  // whole vectors of y
  same(1409, 272, DType::bf16);
  same(1400, 40, DType::f16);
  same(1409, 40, DType::f32);
}

// Views that begin anywhere: a vector that one row allows may not be aligned in the tensor.
TEST_P(Products, QuantizeRowsOfUnalignedViews) {
  const auto cpu = make_cpu_ops(1);
  for (DType t : activations) {
    for (std::int64_t width : {1, 37, 64, 1048, 2050}) {
      const Tensor host = random(t, {3 * width + 9}, 7), all = device(host);
      for (std::int64_t first : {0, 1, 4, 8}) {
        const auto view = [&](const Tensor& x) { return x.slice_rows(first, first + 3 * width).reshape({3, width}); };
        const Int8Rows q = ops->quantize_rows(view(all)), want = cpu->quantize_rows(view(host));
        EXPECT_TRUE(same_bits(ops->to_host(q.codes), want.codes)) << name_of(t) << " " << width << " " << first;
        EXPECT_TRUE(same_bits(ops->to_host(q.scales), want.scales)) << name_of(t) << " " << width << " " << first;
        const Tensor absmax = ops->empty(DType::f32, {3}), largest = Tensor::empty(DType::f32, {3});
        ops->row_absmax(absmax, view(all));
        cpu->row_absmax(largest, view(host));
        EXPECT_TRUE(same_bits(ops->to_host(absmax), largest)) << name_of(t) << " " << width << " " << first;
        const Tensor expected = Tensor::empty(t, {3, width});
        cpu->fake_quantize_rows(expected, view(host), 4);
        Guarded y(*ops, t, host.shape());
        ops->fake_quantize_rows(view(y.tensor()), view(all), 4);
        EXPECT_TRUE(same_bits(view(y.read()).clone(), expected)) << name_of(t) << " " << width << " " << first;
      }
    }
  }
}

// Codes and results that begin anywhere.
TEST_P(Products, LinearS8OfUnalignedViews) {
  const Int8Case c(9, 48, 64, 5);
  const WeightPtr w = ops->pack(c.w, WeightFormat::s8);
  const Tensor want = run_linear_s8(*ops, c.x, *w, c.b, DType::f16);
  Tensor codes = Tensor::zeros(DType::i8, {9 * 64 + 1});
  std::copy_n(c.x.codes.data<std::int8_t>(), 9 * 64, codes.data<std::int8_t>() + 1);
  const Int8Rows x{device(codes).slice_rows(1, 9 * 64 + 1).reshape({9, 64}), device(c.x.scales), device(c.x.outliers),
                   device(c.x.outlier_columns)};
  Guarded y(*ops, DType::f16, {9 * 48 + 1});
  ops->linear_s8(y.tensor().slice_rows(1, 9 * 48 + 1).reshape({9, 48}), x, *w, device(c.b));
  EXPECT_TRUE(same_bits(y.read().slice_rows(1, 9 * 48 + 1).reshape({9, 48}), want));
}

TEST_P(Products, LogitsScaleAndCap) {
  for (DType t : activations) {
    const Tensor x = random(t, {65, 48}, 1), w = random(t, {700, 48}, 2);
    const WeightPtr packed = ops->pack(w, format_of(t));
    for (const LogitSpec& spec : {LogitSpec{}, LogitSpec{0.0625f, 0.0f}, LogitSpec{1.0f, 30.0f}}) {
      Guarded y(*ops, DType::f32, {65, 700});
      ops->logits(y.tensor(), device(x), *packed, spec);
      Expected want = linear(x, w, {}, DType::f32);
      for (std::size_t i = 0; i < want.value.size(); ++i) {
        want.value[i] = soft_cap(spec.scale * want.value[i], spec.soft_cap);  // the cap contracts errors
        want.bound[i] =
            want.bound[i] * spec.scale + 4.0 * unit * std::max(std::fabs(want.value[i]), double{spec.soft_cap});
      }
      EXPECT_TRUE(near(y.read(), want)) << name_of(t);
    }
  }
}

// The same as LinearOfManyOutputs.
TEST_P(Products, LogitsOfManyTokens) {
  constexpr std::int64_t rows = 257, n = 33 * 256 - 3;
  for (DType t : activations) {
    const Tensor x = random(t, {rows, 9}, 1);
    const WeightPtr w = ops->pack(random(t, {n, 9}, 2), format_of(t));
    const auto logits = [&](const Tensor& of) {
      const Tensor y = ops->empty(DType::f32, {of.rows(), n});
      ops->logits(y, device(of), *w, {0.5f, 20.0f});
      return ops->to_host(y);
    };
    const Tensor all = logits(x);
    for (auto [begin, end] : {std::pair<int, int>{0, 70}, {127, 130}, {200, 257}}) {
      EXPECT_TRUE(same_bits(logits(x.slice_rows(begin, end)), all.slice_rows(begin, end)))
          << name_of(t) << " rows " << begin << " to " << end;
    }
  }
}

TEST_P(Products, TokenLogprobs) {
  unsigned seed = 21;
  for (DType t : activations) {
    for (auto [rows, vocab, width] : {std::tuple<int, int, int>{1, 1, 40},
                                      {3, 5, 40},
                                      {2, 255, 7},
                                      {2, 256, 64},
                                      {129, 257, 300},
                                      {70, 513, 40},
                                      {130, 1500, 40}}) {
      const Tensor x = random(t, {rows, width}, ++seed), w = random(t, {vocab, width}, ++seed);
      const WeightPtr packed = ops->pack(w, format_of(t));
      std::vector<Target> targets;  // unsorted, with repeated rows and rows without targets
      for (int i = 0; i < 40; ++i) {
        targets.push_back({static_cast<std::int32_t>(i * 37 % rows), static_cast<std::int32_t>(i * 101 % vocab)});
      }
      for (const LogitSpec& spec : {LogitSpec{}, LogitSpec{0.25f, 0.0f}, LogitSpec{2.0f, 15.0f}}) {
        const std::vector<double> got = ops->token_logprobs(device(x), targets, *packed, spec);
        const auto want = token_logprobs(x, targets, w, spec);
        ASSERT_EQ(got.size(), want.size());
        for (std::size_t i = 0; i < got.size(); ++i) {
          EXPECT_LE(std::fabs(got[i] - want[i].first), want[i].second) << name_of(t) << " " << rows << " " << vocab;
        }
      }
    }
  }
  const WeightPtr packed = ops->pack(random(DType::f32, {9, 8}, 1), WeightFormat::f32);
  EXPECT_TRUE(ops->token_logprobs(device(random(DType::f32, {4, 8}, 1)), {}, *packed, {}).empty());
}

// Logits of +-1e4 must neither overflow nor lose the answer.
TEST_P(Products, TokenLogprobsOfExtremeLogits) {
  Tensor x = Tensor::zeros(DType::f32, {1, 1}), w = Tensor::zeros(DType::f32, {600, 1});
  x.data<float>()[0] = 1.0f;
  w.data<float>()[3] = 1e4f;
  w.data<float>()[599] = -1e4f;
  const WeightPtr packed = ops->pack(w, WeightFormat::f32);
  const std::vector<Target> targets{{0, 3}, {0, 0}, {0, 599}};
  const std::vector<double> got = ops->token_logprobs(device(x), targets, *packed, {});
  EXPECT_EQ(got[0], 0.0);
  EXPECT_EQ(got[1], -1e4);
  EXPECT_EQ(got[2], -2e4);
}

// So large a vocabulary that the logits of a coded head do not all exist at a time.
TEST_P(Products, TokenLogprobsOfManyCodedLogits) {
  constexpr std::int64_t rows = 130, vocab = 33000;
  const CodedWeight w = random_codes(4, vocab, 8, -1, 1);
  const Tensor x = device(random(DType::bf16, {rows, 8}, 2));
  std::vector<Target> targets;
  for (std::int32_t r : {0, 1, 127, 128, 129}) targets.push_back({r, r * 255});
  for (std::int32_t r = 0; r < rows; ++r) targets.push_back({r, 32999 - r});
  const std::vector<double> got = ops->token_logprobs(x, targets, *ops->pack_codes(w, DType::bf16), {});
  EXPECT_EQ(got, ops->token_logprobs(x, targets, *ops->pack(dequantized(w), WeightFormat::bf16), {}));
}

// A NaN or infinity among the logits of a row is that row's alone.
TEST_P(Products, TokenLogprobsKeepNonFinite) {
  Tensor x = random(DType::f32, {3, 8}, 1);
  const Tensor w = random(DType::f32, {300, 8}, 2, Data::positive);
  x.data<float>()[8] = NAN;
  x.data<float>()[16] = INFINITY;
  const std::vector<Target> targets{{0, 299}, {1, 0}, {2, 150}};
  const auto got = ops->token_logprobs(device(x), targets, *ops->pack(w, WeightFormat::f32), {});
  EXPECT_TRUE(std::isfinite(got[0]));
  EXPECT_TRUE(std::isnan(got[1]));
  EXPECT_TRUE(std::isnan(got[2]));
}

TEST_P(Products, GramAtAwkwardShapes) {
  unsigned seed = 31;
  for (DType t : activations) {
    for (std::int64_t tokens : {1, 129, 1100}) {
      for (std::int64_t n : awkward) {
        const Tensor x = random(t, {tokens, n}, ++seed);
        const Tensor h0 = random(DType::f32, {n, n}, ++seed);
        Guarded h(*ops, DType::f32, {n, n}, h0);
        ops->gram(h.tensor(), device(x));
        EXPECT_TRUE(near(h.read(), gram(h0, x))) << name_of(t) << " " << tokens << " x " << n;
      }
    }
  }
}

TEST_P(Products, GramIsExactOnSmallIntegers) {
  for (DType t : activations) {
    const Tensor x = random(t, {2500, 70}, 3, Data::small_integers);
    const Tensor h0 = random(DType::f32, {70, 70}, 4, Data::small_integers);
    Guarded h(*ops, DType::f32, {70, 70}, h0);
    ops->gram(h.tensor(), device(x));
    Expected want = gram(h0, x);
    for (double& b : want.bound) b = std::isinf(b) ? b : 0.0;
    EXPECT_TRUE(near(h.read(), want)) << name_of(t);
  }
}

// Around tiles of 128 columns, squares of 8 x 8 tiles, steps of 16 and 32 tokens, and rows of X at every alignment: X
// is a slice that begins at an odd row. What lies below the diagonal of H must not matter. Sums of integers are exact,
// so that any lost or doubled token shows.
TEST_P(Products, GramAtEdgesOfTiles) {
  for (auto [tokens, n] :
       {std::pair<int, int>{31, 127}, {32, 128}, {33, 129}, {16, 136}, {65, 12}, {100, 257}, {3, 1025}}) {
    for (DType t : activations) {
      const Tensor all = device(random(t, {tokens + 2, n}, static_cast<unsigned>(n), Data::small_integers));
      const Tensor x = all.slice_rows(1, tokens + 1);
      Tensor h0 = random(DType::f32, {n, n}, 5, Data::small_integers);
      for (int i = 0; i < n; ++i) std::fill_n(h0.data<float>() + std::int64_t{i} * n, i, NAN);
      Guarded h(*ops, DType::f32, {n, n}, h0);
      ops->gram(h.tensor(), x);
      const Tensor got = h.read(), on_host = ops->to_host(x);
      std::int64_t wrong = 0;
      for (std::int64_t i = 0; i < n; ++i) {
        std::vector<float> want(h0.data<float>() + i * n, h0.data<float>() + (i + 1) * n);
        for (std::int64_t k = 0; k < tokens; ++k) {
          const auto xi = static_cast<float>(element(on_host, k * n + i));
          for (std::int64_t j = i; j < n; ++j) {
            want[static_cast<std::size_t>(j)] += xi * static_cast<float>(element(on_host, k * n + j));
          }
        }
        for (std::int64_t j = i; j < n; ++j) wrong += got.data<float>()[i * n + j] != want[static_cast<std::size_t>(j)];
      }
      EXPECT_EQ(wrong, 0) << name_of(t) << " " << tokens << " x " << n;
    }
  }
}

// Long sums move to memory now and then; how tokens are split into calls shows in rounding only.
TEST_P(Products, GramOfManyTokensInAnySplit) {
  const int n = 40;
  for (DType t : activations) {
    for (Data kind : {Data::small_integers, Data::positive}) {
      const Tensor x = device(random(t, {8193, n}, 6, kind));
      const Tensor zero = Tensor::zeros(DType::f32, {n, n});
      Expected want = gram(zero, ops->to_host(x));
      for (std::size_t i = 0; i < want.bound.size(); ++i) {
        const double rounding = 2.0 * (std::sqrt(4096.0) + 4.0) * unit * want.value[i];  // two promotions, two calls
        want.bound[i] = std::isinf(want.bound[i]) ? INFINITY : kind == Data::positive ? rounding : 0.0;
      }
      for (std::int64_t split : {0, 1, 4097}) {
        Guarded h(*ops, DType::f32, {n, n}, zero);
        ops->gram(h.tensor(), x.slice_rows(0, split));
        ops->gram(h.tensor(), x.slice_rows(split, 8193));
        EXPECT_TRUE(near(h.read(), want)) << name_of(t) << " split at " << split;
      }
    }
  }
}

// The same tests on older instruction sets, as far as the library can pretend to have one.
TEST(OlderProcessors, ProductsAreRightToo) {
  if (std::getenv("ONEDNN_MAX_CPU_ISA") != nullptr) GTEST_SKIP() << "already restricted";
  const std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
  for (const char* isa : {"AVX2", "AVX512_CORE"}) {
    const std::string command = fmt::format(
        "ONEDNN_MAX_CPU_ISA={} '{}' --gtest_filter='*LinearIs*:*LinearS8*:*PackS8*:*Logprobs*' > /dev/null", isa, self);
    EXPECT_EQ(std::system(command.c_str()), 0) << command;
  }
}

}  // namespace
}  // namespace ptq::testing

// Embedding, norms, rotary positions, activations and the small row operations against double precision.
#include "backends.h"
#include "reference.h"

namespace ptq::testing {
namespace {

using Layers = OpsTest;
PTQ_ON_ALL_BACKENDS(Layers);

constexpr DType activations[] = {DType::f32, DType::bf16, DType::f16};

// Widths of rows: not a multiple of 16 bytes, of one and of several rounds of a block of threads.
constexpr std::int64_t row_widths[] = {1, 37, 64, 2056, 2057};

TEST_P(Layers, Embed) {
  for (DType t : activations) {
    for (std::int64_t d : row_widths) {
      const Tensor table = random(t, {50, d}, 1);
      const std::vector<std::int32_t> ids{0, 49, 7, 7, 13};
      for (float scale : {1.0f, 11.3125f}) {
        Guarded y(*ops, t, {5, d});
        ops->embed(y.tensor(), device(indices(ids)), device(table), scale);
        Collector want({5, d}, t);
        for (std::int32_t id : ids) {
          for (std::int64_t i = 0; i < d; ++i) {
            const double v = element(table, id * d + i) * scale;
            want.add(v, 0.0, 1.0, unit * std::fabs(v));
          }
        }
        EXPECT_TRUE(near(y.read(), want.take())) << name_of(t) << " " << d;
      }
    }
  }
}

// Found when the operation is called or when its end is waited for, and then only once.
TEST_P(Layers, RowsOutsideOfTheTableAreRefused) {
  const Tensor table = device(random(DType::f32, {4, 8}, 1)), y = device(random(DType::f32, {1, 8}, 2));
  for (std::int32_t bad : {4, -1}) {
    const Tensor index = device(indices({bad}));
    const auto refused = [&](const std::function<void()>& work) {
      EXPECT_THROW((work(), ops->synchronize()), Error) << bad;
      EXPECT_NO_THROW(ops->synchronize());
    };
    refused([&] { ops->embed(y, index, table, 1.0f); });
    refused([&] { ops->add_rows(y, index, table); });
    refused([&] { ops->gather_rows(y, table, index); });
  }
}

TEST_P(Layers, AddRowsAndAdd) {
  for (DType t : activations) {
    for (std::int64_t d : row_widths) {
      const Tensor x = random(t, {6, d}, 1), table = random(t, {9, d}, 2);
      const std::vector<std::int32_t> index{8, 0, 3, 3, 1, 2};
      Guarded y(*ops, t, {6, d}, x), z(*ops, t, {6, d}, x);
      ops->add_rows(y.tensor(), device(indices(index)), device(table));
      ops->add(z.tensor(), device(table.slice_rows(0, 6)));
      Collector rows({6, d}, t), plain({6, d}, t);
      for (std::int64_t i = 0; i < 6 * d; ++i) {
        const double a = element(x, i);
        rows.add(a + element(table, index[static_cast<std::size_t>(i / d)] * d + i % d), 0.0, 1.0, 4.0 * unit);
        plain.add(a + element(table, i), 0.0, 1.0, 4.0 * unit);
      }
      EXPECT_TRUE(near(y.read(), rows.take())) << name_of(t) << " " << d;
      EXPECT_TRUE(near(z.read(), plain.take())) << name_of(t) << " " << d;
    }
  }
}

TEST_P(Layers, GatherRows) {
  for (DType t : {DType::f32, DType::bf16, DType::f16, DType::i8, DType::i64}) {
    for (std::int64_t d : {1, 5, 6, 64, 2057, 4112}) {
      Tensor x = Tensor::empty(t, {7, d});
      for (std::size_t i = 0; i < x.bytes(); ++i) static_cast<unsigned char*>(x.raw())[i] = (i * 7 + i / 256) % 253;
      Guarded y(*ops, t, {3, d});
      ops->gather_rows(y.tensor(), device(x), device(indices({6, 0, 6})));
      const Tensor got = y.read();
      EXPECT_TRUE(same_bits(got.slice_rows(0, 1), x.slice_rows(6, 7))) << name_of(t) << " " << d;
      EXPECT_TRUE(same_bits(got.slice_rows(1, 2), x.slice_rows(0, 1))) << name_of(t) << " " << d;
      EXPECT_TRUE(same_bits(got.slice_rows(2, 3), x.slice_rows(6, 7))) << name_of(t) << " " << d;
    }
  }
}

// The norm in double; `mid` is the unit roundoff of the extra rounding before the gain, 0 if there is none.
Expected norm_reference(const Tensor& x, const Tensor& w, const Tensor& b, const NormSpec& spec) {
  const std::int64_t rows = x.rows(), d = x.cols();
  Collector y(x.shape(), x.dtype());
  for (std::int64_t r = 0; r < rows; ++r) {
    double mean = 0.0, square = 0.0, absolute = 0.0;
    for (std::int64_t i = 0; i < d; ++i) {
      mean += element(x, r * d + i) / static_cast<double>(d);
      absolute += std::fabs(element(x, r * d + i)) / static_cast<double>(d);
    }
    if (spec.kind == NormKind::rms) mean = 0.0;
    for (std::int64_t i = 0; i < d; ++i) {
      const double from_mean = element(x, r * d + i) - mean;
      square += from_mean * from_mean / static_cast<double>(d);
    }
    const double scale = 1.0 / std::sqrt(square + spec.epsilon);
    const double chain = std::sqrt(static_cast<double>(d)) + 2.0;
    for (std::int64_t i = 0; i < d; ++i) {
      const double n = (element(x, r * d + i) - mean) * scale;
      double gain = element(w, r % w.rows() * d + i);
      if (spec.one_plus_weight) gain += 1.0;
      const double offset = b ? element(b, r % w.rows() * d + i) : 0.0;
      const double mid = spec.round_before_weight && x.dtype() != DType::f32 ? output_unit(x.dtype()) : 0.0;
      // The mean's error shifts, the variance's error (relative, halved by the root) scales.
      const double shift = spec.kind == NormKind::layer ? 2.0 * chain * unit * absolute * scale : 0.0;
      const double inexact = std::fabs(gain) * (shift + std::fabs(n) * (2.0 * chain * unit + 8.0 * unit + mid)) +
                             2.0 * unit * std::fabs(offset) +
                             (x.dtype() == DType::f16 ? std::fabs(gain) * 0x1p-25 : 0.0);
      y.add(n * gain + offset, 0.0, 1.0, inexact);
    }
  }
  return y.take();
}

TEST_P(Layers, Norms) {
  unsigned seed = 1;
  const std::vector<NormSpec> specs{{NormKind::rms, 1e-5f, false, false},
                                    {NormKind::rms, 1e-6f, true, false},
                                    {NormKind::rms, 1e-5f, false, true},
                                    {NormKind::layer, 1e-5f, false, false}};
  for (DType t : activations) {
    for (const NormSpec& spec : specs) {
      for (std::int64_t d : awkward) {
        for (std::int64_t gains : {1, 3}) {
          const Tensor x = random(t, {9, d}, ++seed), w = random(DType::f32, {gains, d}, ++seed);
          const Tensor b = spec.kind == NormKind::layer ? random(DType::f32, {gains, d}, ++seed) : Tensor();
          Guarded y(*ops, t, {9, d}), in_place(*ops, t, {9, d}, x);
          ops->norm(y.tensor(), device(x), device(w), b ? device(b) : b, spec);
          EXPECT_TRUE(near(y.read(), norm_reference(x, w, b, spec))) << name_of(t) << " " << d << " " << gains;
          ops->norm(in_place.tensor(), in_place.tensor(), device(w), b ? device(b) : b, spec);
          EXPECT_TRUE(same_bits(in_place.read(), y.read()));
        }
      }
    }
  }
}

// Around the widths at which a row is shared by part of a warp, a warp, a block, and a block that reads it again.
TEST_P(Layers, NormsOfWideRows) {
  for (DType t : activations) {
    for (NormKind kind : {NormKind::rms, NormKind::layer}) {
      for (std::int64_t d : {127, 128, 256, 264, 511, 512, 513, 520, 1000, 16383, 16384, 16392, 33001}) {
        const Tensor x = random(t, {3, d}, 1), w = random(DType::f32, {2, d}, 2), b = random(DType::f32, {2, d}, 3);
        Guarded y(*ops, t, {3, d}), in_place(*ops, t, {3, d}, x);
        const NormSpec spec{kind, 1e-5f, false, false};
        ops->norm(y.tensor(), device(x), device(w), device(b), spec);
        EXPECT_TRUE(near(y.read(), norm_reference(x, w, b, spec))) << name_of(t) << " " << d;
        ops->norm(in_place.tensor(), in_place.tensor(), device(w), device(b), spec);
        EXPECT_TRUE(same_bits(in_place.read(), y.read())) << name_of(t) << " " << d;
      }
    }
  }
}

// A large common offset must not destroy the variance (the mean is subtracted first).
TEST_P(Layers, LayerNormOfLargeOffset) {
  Tensor x = random(DType::f32, {1, 256}, 3);
  for (float& v : x.span<float>()) v = v * 0.125f + 1000.0f;
  Tensor ones = Tensor::empty(DType::f32, {1, 256});
  for (float& v : ones.span<float>()) v = 1.0f;
  Guarded y(*ops, DType::f32, {1, 256});
  ops->norm(y.tensor(), device(x), device(ones), {}, {NormKind::layer, 1e-5f, false, false});
  EXPECT_TRUE(near(y.read(), norm_reference(x, ones, {}, {NormKind::layer, 1e-5f, false, false})));
}

TEST_P(Layers, Rope) {
  unsigned seed = 1;
  for (DType t : activations) {
    for (RopeStyle style : {RopeStyle::half_split, RopeStyle::interleaved}) {
      for (auto [heads, c, p] :
           {std::tuple{1, 2, 1}, {3, 14, 7}, {2, 64, 32}, {2, 22, 5}, {2, 96, 16}, {3, 80, 12}, {4, 96, 48}}) {
        const std::int64_t tokens = 11;
        const Tensor x = random(t, {tokens, heads * c}, ++seed);
        Tensor cos = Tensor::empty(DType::f32, {tokens, p}), sin = Tensor::empty(DType::f32, {tokens, p});
        for (std::int64_t i = 0; i < tokens * p; ++i) {
          cos.data<float>()[i] = std::cos(static_cast<float>(i));
          sin.data<float>()[i] = std::sin(static_cast<float>(i));
        }
        Guarded y(*ops, t, x.shape(), x);
        ops->rope(y.tensor(), device(cos), device(sin), heads, style);
        Collector want(x.shape(), t);
        for (std::int64_t tok = 0; tok < tokens; ++tok) {
          for (int h = 0; h < heads; ++h) {
            for (int i = 0; i < c; ++i) {
              const std::int64_t base = tok * heads * c + h * c;
              const bool half = style == RopeStyle::half_split;
              const int pair = half ? i % p : i / 2;
              const bool second = half ? i >= p : i % 2 == 1;
              if (i >= 2 * p) {
                want.add(element(x, base + i), 0.0, 1.0);
                continue;
              }
              const double a = element(x, base + (half ? pair : 2 * pair));
              const double b = element(x, base + (half ? pair + p : 2 * pair + 1));
              const double co = element(cos, tok * p + pair), si = element(sin, tok * p + pair);
              want.add(second ? b * co + a * si : a * co - b * si, std::fabs(a) + std::fabs(b), 2.0);
            }
          }
        }
        EXPECT_TRUE(near(y.read(), want.take())) << name_of(t) << " " << c << " " << p;
      }
    }
  }
}

double act(Activation a, double x) {
  switch (a) {
    case Activation::relu:
      return std::max(0.0, x);
    case Activation::silu:
      return x / (1.0 + std::exp(-x));
    case Activation::gelu_tanh:
      return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::gelu_erf:
      return 0.5 * x * (1.0 + std::erf(x / std::sqrt(2.0)));
  }
  return NAN;
}

TEST_P(Layers, Activations) {
  for (DType t : activations) {
    for (Activation a : {Activation::relu, Activation::silu, Activation::gelu_tanh, Activation::gelu_erf}) {
      for (bool gated : {false, true}) {
        const std::int64_t rows = 7, f = 301;
        Tensor gate = random(DType::f32, {rows, f}, 4);
        for (std::int64_t i = 0; i < gate.numel(); ++i)
          gate.data<float>()[i] *= i % 3 == 0 ? 10.0f : i % 3 == 1 ? 1.0f : 0.01f;
        gate.data<float>()[0] = -200.0f;  // far tails
        gate.data<float>()[1] = 200.0f;
        gate = gate.to(t);
        const Tensor up = gated ? random(t, {rows, f}, 5) : Tensor();
        Guarded y(*ops, t, {rows, f}), in_place(*ops, t, {rows, f}, gate);
        ops->activate(y.tensor(), device(gate), gated ? device(up) : up, a);
        ops->activate(in_place.tensor(), in_place.tensor(), gated ? device(up) : up, a);
        EXPECT_TRUE(same_bits(in_place.read(), y.read()));
        Collector want({rows, f}, t);
        for (std::int64_t i = 0; i < gate.numel(); ++i) {
          const double x = element(gate, i), v = act(a, x), u = gated ? element(up, i) : 1.0;
          // gelu: 1 + tanh cancels for negative x, so its error is absolute in x; silu's e^-x is good to 2 ulp.
          const double inexact =
              a == Activation::relu ? 0.0 : 8.0 * unit * (std::fabs(v) + (a == Activation::silu ? 0.0 : std::fabs(x)));
          want.add(v * u, 0.0, 1.0, (inexact + 2.0 * unit * std::fabs(v)) * std::fabs(u));
        }
        EXPECT_TRUE(near(y.read(), want.take())) << name_of(t) << " " << static_cast<int>(a);
      }
    }
  }
}

TEST_P(Layers, ActivationsKeepNaN) {
  Tensor x = Tensor::zeros(DType::f32, {1, 20});
  x.data<float>()[3] = NAN;
  x.data<float>()[18] = NAN;
  for (Activation a : {Activation::relu, Activation::silu, Activation::gelu_tanh, Activation::gelu_erf}) {
    Guarded y(*ops, DType::f32, {1, 20});
    ops->activate(y.tensor(), device(x), {}, a);
    const Tensor got = y.read();
    for (int i = 0; i < 20; ++i) EXPECT_EQ(std::isnan(got.data<float>()[i]), i == 3 || i == 18) << static_cast<int>(a);
  }
}

// Rows at addresses that are no multiple of 16 bytes give the bits of aligned ones.
TEST_P(Layers, UnalignedRowsGiveTheSameBits) {
  const auto shifted = [&](const Tensor& x, std::int64_t by) {  // a view of `by` elements into a larger tensor
    Tensor all = Tensor::zeros(x.dtype(), {x.numel() + by});
    std::memcpy(all.slice_rows(by, x.numel() + by).raw(), x.raw(), x.bytes());
    return device(all).slice_rows(by, x.numel() + by).reshape(x.shape());
  };
  for (DType t : activations) {
    for (std::int64_t d : {64, 768, 1040}) {
      const Tensor x = random(t, {5, d}, 1), y = random(t, {5, d}, 2), w = random(DType::f32, {1, d}, 3);
      const Tensor table = random(t, {9, d}, 4), index = device(indices({8, 0, 3, 3, 1}));
      const Tensor cos = random(DType::f32, {5, 16}, 5), sin = random(DType::f32, {5, 16}, 6);
      const auto results = [&](std::int64_t by) {
        std::vector<Tensor> out;
        const auto in_place = [&](auto&& run) {
          const Tensor z = shifted(x, by);
          run(z);
          out.push_back(ops->to_host(z));
        };
        in_place([&](const Tensor& z) { ops->embed(z, index, shifted(table, by), 1.5f); });
        in_place([&](const Tensor& z) { ops->add_rows(z, index, shifted(table, by)); });
        in_place([&](const Tensor& z) { ops->gather_rows(z, shifted(table, by), index); });
        in_place([&](const Tensor& z) { ops->add(z, shifted(y, by)); });
        in_place([&](const Tensor& z) { ops->norm(z, z, shifted(w, by), shifted(w, by), {NormKind::layer}); });
        in_place([&](const Tensor& z) { ops->norm(z, z, shifted(w, by), {}, {}); });
        for (RopeStyle style : {RopeStyle::half_split, RopeStyle::interleaved})
          in_place([&](const Tensor& z) { ops->rope(z, shifted(cos, by), shifted(sin, by), 2, style); });
        for (Activation a : {Activation::relu, Activation::silu, Activation::gelu_tanh, Activation::gelu_erf})
          in_place([&](const Tensor& z) { ops->activate(z, z, shifted(y, by), a); });
        return out;
      };
      const std::vector<Tensor> aligned = results(0);
      for (std::int64_t by : {1, 2}) {
        const std::vector<Tensor> got = results(by);
        for (std::size_t i = 0; i < got.size(); ++i)
          EXPECT_TRUE(same_bits(got[i], aligned[i])) << i << " " << name_of(t) << " " << d << " " << by;
      }
    }
  }
}

TEST_P(Layers, CountNonfinite) {
  EXPECT_EQ(ops->count_nonfinite(ops->empty(DType::f32, {0})), 0);
  for (DType t : activations) {
    for (std::int64_t n : {1, 7, 16383, 16384, 16385}) {  // around the piece of a block
      Tensor x = Tensor::zeros(DType::f32, {n + 1});
      x.data<float>()[n] = -INFINITY;
      EXPECT_EQ(ops->count_nonfinite(device(x.to(t)).slice_rows(0, n)), 0) << n;
      EXPECT_EQ(ops->count_nonfinite(device(x.to(t)).slice_rows(1, n + 1)), 1) << n;
    }
    Tensor x = random(DType::f32, {40, 1000}, 9);
    EXPECT_EQ(ops->count_nonfinite(device(x.to(t))), 0);
    x.data<float>()[0] = NAN;
    x.data<float>()[39999] = INFINITY;
    x.data<float>()[20000] = -INFINITY;
    EXPECT_EQ(ops->count_nonfinite(device(x.to(t))), 3);
  }
}

}  // namespace
}  // namespace ptq::testing

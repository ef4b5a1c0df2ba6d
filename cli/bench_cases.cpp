#include "cli/bench_cases.h"

#include "model/nf4_book.h"

#include <fmt/format.h>

#include <cmath>
#include <set>

namespace ptq {

namespace {

// The models of the paper (section 3), by what their matrices look like.
struct PaperModel {
  std::int64_t width, feed_forward, heads, kv_heads, head_dim, vocab;
};
constexpr PaperModel paper_models[] = {
    {4096, 16384, 32, 32, 128, 50272},   // OPT-6.7B
    {4096, 11008, 32, 32, 128, 32000},   // Llama-1-7B, Llama-2-7B
    {4096, 14336, 32, 8, 128, 128256},   // Llama-3-8B
    {4096, 14336, 32, 8, 128, 32000},    // Mistral-7B
    {8192, 22528, 64, 64, 128, 256000},  // Command-R-35B
};

// Normal numbers with an outlier channel in 500, seeded; zeros or constants would flatter a GPU's clock.
Tensor activations(DType dtype, std::int64_t rows, std::int64_t columns, std::uint64_t seed, float deviation = 1.0f) {
  const Tensor t = Tensor::empty(DType::f32, {rows, columns});
  std::uint64_t state = 0x9e3779b97f4a7c15u + seed;
  float* x = t.data<float>();
  for (std::int64_t i = 0; i < t.numel(); ++i) {
    float sum = 0.0f;  // of four uniform numbers: near enough to normal
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    for (int part = 0; part < 4; ++part) sum += static_cast<float>(state >> (16 * part) & 0xffffu) / 65536.0f - 0.5f;
    x[i] = sum * 1.732f * deviation * (i % columns % 500 == 77 ? 20.0f : 1.0f);
  }
  return t.to(dtype);
}

Tensor weights(DType dtype, std::int64_t n, std::int64_t i, std::uint64_t seed) {
  return activations(dtype, n, i, seed, 0.02f);
}

// The rounding of sums in fp32 and of the output, with room for their order.
double float_tolerance(DType t) { return t == DType::f32 ? 1e-5 : t == DType::f16 ? 2e-3 : 1e-2; }

WeightFormat format_of(DType t) {
  return t == DType::bf16 ? WeightFormat::bf16 : t == DType::f16 ? WeightFormat::f16 : WeightFormat::f32;
}

std::string_view short_name(DType t) {
  return t == DType::bf16 ? "bf16" : t == DType::f16 ? "f16" : t == DType::i8 ? "s8" : "f32";
}

class Cases {
 public:
  explicit Cases(const BenchSizes& sizes) : t_(sizes.tokens), shrink_(sizes.shrink) {
    for (const PaperModel& m : paper_models) {
      const std::int64_t d = m.width / shrink_, f = m.feed_forward / shrink_;
      const std::int64_t kv = std::max<std::int64_t>(1, m.kv_heads / shrink_) * m.head_dim;
      linears_.insert({d, d});
      linears_.insert({kv, d});
      linears_.insert({f, d});
      linears_.insert({d, f});
      widths_.insert(d);
      widths_.insert(f);
      heads_.insert({m.heads / shrink_, std::max<std::int64_t>(1, m.kv_heads / shrink_)});
      vocabularies_.insert({m.vocab / shrink_, d});
    }
  }

  std::vector<BenchCase> take() {
    for (DType t : {DType::bf16, DType::f16, DType::f32}) linear(t);
    linear_s8();
    for (int bits : {4, 8}) coded(bits);
    few();
    attention();
    head();
    layers();
    gram();
    factor();
    sweep();
    awq();
    statistics();
    return std::move(cases_);
  }

 private:
  using Pair = std::pair<std::int64_t, std::int64_t>;

  void add(BenchCase c) { cases_.push_back(std::move(c)); }

  static double product(std::int64_t t, std::int64_t n, std::int64_t i) {
    return 2.0 * static_cast<double>(t) * static_cast<double>(n) * static_cast<double>(i);
  }
  static double count(std::int64_t a, std::int64_t b) { return static_cast<double>(a) * static_cast<double>(b); }

  void linear(DType type) {
    for (const auto& [n, i] : linears_) {
      const double item = static_cast<double>(size_of(type));
      add({fmt::format("linear {}", short_name(type)), fmt::format("T {} N {} I {}", t_, n, i), type, product(t_, n, i),
           item * (count(t_, i) + count(n, i) + count(t_, n)), float_tolerance(type),
           [=, t = t_, n = n, i = i](Ops& ops) {
             const Tensor x = ops.to_device(activations(type, t, i, 1)), y = ops.empty(type, {t, n});
             const WeightPtr w = ops.pack(weights(type, n, i, 2), format_of(type));
             return BenchRun{[&ops, x, y, w] { ops.linear(y, x, *w, {}); }, [&ops, y] { return ops.to_host(y); }};
           }});
    }
  }

  void linear_s8() {
    for (const auto& [n, i] : linears_) {
      add({"linear_s8", fmt::format("T {} N {} I {}", t_, n, i), DType::i8, product(t_, n, i),
           count(t_, i) + count(n, i) + 2.0 * count(t_, n), 0.0, [t = t_, n = n, i = i](Ops& ops) {
             const Int8Rows x = ops.quantize_rows(ops.to_device(activations(DType::f32, t, i, 1)));
             const Tensor y = ops.empty(DType::bf16, {t, n});
             const WeightPtr w = ops.pack(weights(DType::f32, n, i, 2), WeightFormat::s8);
             return BenchRun{[&ops, x, y, w] { ops.linear_s8(y, x, *w, {}); }, [&ops, y] { return ops.to_host(y); }};
           }});
    }
  }

  static CodedWeight codes(int bits, std::int64_t n, std::int64_t i) {
    constexpr std::int64_t group = 128;
    CodedWeight w{bits,
                  Tensor::empty(DType::u8, {n, i}),
                  Tensor::empty(DType::f32, {n, (i + group - 1) / group}),
                  {},
                  Tensor::empty(DType::i32, {i})};
    w.zeros = Tensor::empty(DType::f32, w.scales.shape());
    std::uint64_t state = 7;
    for (std::uint8_t& c : w.codes.span<std::uint8_t>()) {
      state ^= state << 13, state ^= state >> 7, state ^= state << 17;
      c = static_cast<std::uint8_t>(state >> (64 - bits));
    }
    std::fill(w.scales.span<float>().begin(), w.scales.span<float>().end(), to_float(to_f16(0.003f)));
    std::fill(w.zeros.span<float>().begin(), w.zeros.span<float>().end(), static_cast<float>(1 << (bits - 1)));
    for (std::int64_t c = 0; c < i; ++c) w.g_idx.data<std::int32_t>()[c] = static_cast<std::int32_t>(c / group);
    return w;
  }

  void coded(int bits) {
    for (const auto& [n, i] : linears_) {
      add({fmt::format("linear u{} bf16", bits), fmt::format("T {} N {} I {} g128", t_, n, i), DType::bf16,
           product(t_, n, i), 2.0 * (count(t_, i) + count(t_, n)) + count(n, i) * bits / 8.0,
           float_tolerance(DType::bf16), [=, t = t_, n = n, i = i](Ops& ops) {
             const Tensor x = ops.to_device(activations(DType::bf16, t, i, 1)), y = ops.empty(DType::bf16, {t, n});
             const WeightPtr w = ops.pack_codes(codes(bits, n, i), DType::bf16);
             return BenchRun{[&ops, x, y, w] { ops.linear(y, x, *w, {}); }, [&ops, y] { return ops.to_host(y); }};
           }});
    }
  }

  void few() {
    for (std::int64_t rows : {1, 4, 16}) {
      for (int bits : {16, 8, 4}) {
        for (const auto& [n, i] : linears_) {
          const std::string kind = bits == 16 ? "bf16" : fmt::format("u{} bf16", bits);
          add({"linear_few " + kind, fmt::format("T {} N {} I {}", rows, n, i), DType::bf16, product(rows, n, i),
               count(n, i) * bits / 8.0 + 2.0 * (count(rows, i) + count(rows, n)), float_tolerance(DType::bf16),
               [=, n = n, i = i](Ops& ops) {
                 const Tensor x = ops.to_device(activations(DType::bf16, rows, i, 1)),
                              y = ops.empty(DType::bf16, {rows, n});
                 const WeightPtr w = bits == 16 ? ops.pack(weights(DType::bf16, n, i, 2), WeightFormat::bf16)
                                                : ops.pack_codes(codes(bits, n, i), DType::bf16);
                 return BenchRun{[&ops, x, y, w] { ops.linear_few(y, x, *w, {}); },
                                 [&ops, y] { return ops.to_host(y); }};
               }});
        }
      }
    }
  }

  void attention() {
    constexpr std::int64_t c = 128;
    for (DType type : {DType::bf16, DType::f32}) {
      for (const auto& [h, k] : heads_) {
        // Half of the square is masked.
        add({fmt::format("attention {}", short_name(type)), fmt::format("T {} H {} K {} C {}", t_, h, k, c), type,
             2.0 * count(t_, t_) * static_cast<double>(h * c),
             static_cast<double>(size_of(type)) * 2.0 * count(t_, (h + k) * c), float_tolerance(type),
             [type, t = t_, h = h, k = k](Ops& ops) {
               const Tensor q = ops.to_device(activations(type, t, h * c, 1, 0.5f)),
                            keys = ops.to_device(activations(type, t, k * c, 2, 0.5f)),
                            values = ops.to_device(activations(type, t, k * c, 3)), o = ops.empty(type, {t, h * c});
               const AttentionSpec spec{static_cast<int>(h), static_cast<int>(k), c, 0.08838835f, 0.0f, 0};
               const std::vector<Segment> segments{{0, static_cast<std::int32_t>(t), -1}};
               return BenchRun{
                   [&ops, o, q, keys, values, segments, spec] { ops.attention(o, q, keys, values, segments, spec); },
                   [&ops, o] { return ops.to_host(o); }};
             }});
      }
    }
  }

  // LM head, log-softmax and gather of one target a row.
  void head() {
    for (const auto& [v, d] : vocabularies_) {
      add({"token_logprobs bf16", fmt::format("T {} V {} D {}", t_, v, d), DType::bf16, product(t_, v, d),
           2.0 * (count(t_, d) + count(v, d)), 1e-4, [t = t_, v = v, d = d](Ops& ops) {
             const Tensor x = ops.to_device(activations(DType::bf16, t, d, 1)), y = Tensor::empty(DType::f64, {t});
             const WeightPtr w = ops.pack(weights(DType::bf16, v, d, 2), WeightFormat::bf16);
             std::vector<Target> targets;
             for (std::int32_t r = 0; r < t; ++r) targets.push_back({r, static_cast<std::int32_t>((r * 31 + 7) % v)});
             return BenchRun{[&ops, x, y, w, targets] {
                               const std::vector<double> p = ops.token_logprobs(x, targets, *w, {});
                               std::copy(p.begin(), p.end(), y.data<double>());
                             },
                             [y] { return y.to(DType::f32); }};
           }});
    }
  }

  void layers() {
    for (std::int64_t d : widths_) {
      const double values = count(t_, d);
      add({"norm rms bf16", fmt::format("T {} D {}", t_, d), DType::f32, 0.0, 4.0 * values,
           float_tolerance(DType::bf16), [t = t_, d](Ops& ops) {
             const Tensor x = ops.to_device(activations(DType::bf16, t, d, 1)), y = ops.empty(DType::bf16, {t, d}),
                          w = ops.to_device(activations(DType::f32, 1, d, 2));
             return BenchRun{[&ops, x, y, w] { ops.norm(y, x, w, {}, {}); }, [&ops, y] { return ops.to_host(y); }};
           }});
      add({"activate silu bf16", fmt::format("T {} F {}", t_, d), DType::f32, 0.0, 6.0 * values,
           float_tolerance(DType::bf16), [t = t_, d](Ops& ops) {
             const Tensor gate = ops.to_device(activations(DType::bf16, t, d, 1)),
                          up = ops.to_device(activations(DType::bf16, t, d, 2)), y = ops.empty(DType::bf16, {t, d});
             return BenchRun{[&ops, gate, up, y] { ops.activate(y, gate, up, Activation::silu); },
                             [&ops, y] { return ops.to_host(y); }};
           }});
      add({"quantize_rows bf16", fmt::format("T {} I {}", t_, d), DType::f32, 0.0, 3.0 * values, 0.0,
           [t = t_, d](Ops& ops) {
             const Tensor x = ops.to_device(activations(DType::bf16, t, d, 1));
             const auto rows = std::make_shared<Int8Rows>();
             return BenchRun{[&ops, x, rows] { *rows = ops.quantize_rows(x); },
                             [&ops, rows] { return ops.to_host(rows->codes); }};
           }});
    }
    for (const auto& [h, k] : heads_) {
      add({"rope bf16", fmt::format("T {} H {} C 128", t_, h), DType::f32, 0.0, 4.0 * count(t_, h * 128),
           float_tolerance(DType::bf16), [t = t_, h = h](Ops& ops) {
             const Tensor from = activations(DType::bf16, t, h * 128, 1), x = ops.to_device(from.clone()),
                          cos = ops.to_device(activations(DType::f32, t, 64, 2)),
                          sin = ops.to_device(activations(DType::f32, t, 64, 3));
             const auto first = std::make_shared<Tensor>();  // in place: the result is that of the first run
             return BenchRun{[&ops, x, cos, sin, h, first] {
                               ops.rope(x, cos, sin, static_cast<int>(h), RopeStyle::half_split);
                               if (!*first) *first = ops.to_host(x).clone();
                             },
                             [first] { return *first; }};
           }});
    }
  }

  void gram() {
    for (DType type : {DType::bf16, DType::f32}) {
      for (std::int64_t d : widths_) {
        add({fmt::format("gram {}", short_name(type)), fmt::format("T {} I {}", 4 * t_, d), type,
             static_cast<double>(4 * t_) * count(d, d),
             static_cast<double>(size_of(type)) * count(4 * t_, d) + 4.0 * count(d, d), 1e-5,
             [type, t = 4 * t_, d](Ops& ops) {
               const Tensor x = ops.to_device(activations(type, t, d, 1)),
                            h = ops.to_device(Tensor::zeros(DType::f32, {d, d}));
               const auto first = std::make_shared<Tensor>();
               return BenchRun{[&ops, x, h, first] {
                                 ops.gram(h, x);
                                 if (!*first) *first = upper(ops.to_host(h));
                               },
                               [first] { return *first; }};
             }});
      }
    }
  }

  static Tensor upper(const Tensor& h) {
    const Tensor u = h.clone();
    const std::int64_t n = u.rows();
    for (std::int64_t r = 0; r < n; ++r) std::fill_n(u.data<float>() + r * n, r, 0.0f);
    return u;
  }

  // A Hessian of random activations, damped.
  static Tensor hessian(std::int64_t n) {
    const Tensor h = Tensor::zeros(DType::f32, {n, n});
    std::uint64_t state = 99;
    for (std::int64_t r = 0; r < n; ++r) {
      for (std::int64_t c = r; c < n; ++c) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        const float x = (static_cast<float>(state >> 40) / 16777216.0f - 0.5f) / std::sqrt(static_cast<float>(n));
        h.data<float>()[r * n + c] = r == c ? 2.0f + x : x;
      }
    }
    return h;
  }

  void factor() {
    for (std::int64_t d : widths_) {
      add({"factor_inverse f32", fmt::format("I {}", d), DType::f32, 2.0 / 3.0 * count(d, d) * static_cast<double>(d),
           8.0 * count(d, d), 1e-4, [d](Ops& ops) {
             const Tensor from = hessian(d);
             const auto h = std::make_shared<Tensor>();
             return BenchRun{[&ops, from, h] {
                               *h = ops.to_device(from.clone());
                               check(ops.factor_inverse(*h), "bench: the Hessian cannot be factored");
                             },
                             [&ops, h] { return ops.to_host(*h); }};
           }});
    }
  }

  void sweep() {
    for (const auto& [n, i] : linears_) {
      add({"gptq_sweep w4 g128", fmt::format("N {} I {}", n, i), DType::f32, count(n, i) * static_cast<double>(i),
           9.0 * count(n, i) + 4.0 * count(i, i), 0.0, [n = n, i = i](Ops& ops) {
             const Tensor from = weights(DType::f32, n, i, 2), u = ops.to_device(hessian(i));
             const std::int64_t groups = (i + 127) / 128;
             const GroupedCodes out{ops.empty(DType::u8, {n, i}), ops.empty(DType::f32, {n, groups}),
                                    ops.empty(DType::f32, {n, groups})};
             const Tensor error = ops.empty(DType::f64, {n});
             return BenchRun{[&ops, from, u, out, error] {
                               const Tensor w = ops.to_device(from.clone());
                               ops.gptq_sweep(w, out, error, u, {GridSpec{}, 128, 128}, false, {});
                             },
                             [&ops, out] { return ops.to_host(out.codes); }};
           }});
    }
  }

  void awq() {
    for (const auto& [n, i] : linears_) {
      add({"round_scaled w4 g128", fmt::format("N {} I {}", n, i), DType::f32, 0.0, 8.0 * count(n, i), 0.0,
           [n = n, i = i](Ops& ops) {
             const Tensor w = ops.to_device(weights(DType::f32, n, i, 2)), y = ops.empty(DType::f32, {n, i});
             const Tensor t = Tensor::empty(DType::f32, {i});
             for (std::int64_t c = 0; c < i; ++c) t.data<float>()[c] = 0.5f + static_cast<float>(c % 7) / 8.0f;
             const Tensor scale = ops.to_device(t);
             return BenchRun{[&ops, w, y, scale] { ops.round_scaled(y, w, scale, GridSpec{}, 128); },
                             [&ops, y] { return ops.to_host(y); }};
           }});
      add({"gram_loss", fmt::format("N {} I {}", n, i), DType::f32, product(1, n, i) * static_cast<double>(i),
           4.0 * (count(n, i) + count(i, i) / 2), 1e-5, [n = n, i = i](Ops& ops) {
             const Tensor d = ops.to_device(weights(DType::f32, n, i, 2)), g = ops.to_device(hessian(i)),
                          y = Tensor::empty(DType::f32, {1});
             return BenchRun{[&ops, d, g, y] { y.data<float>()[0] = static_cast<float>(ops.gram_loss(d, g)); },
                             [y] { return y; }};
           }});
      // Errors of candidates that differ by rounding may pick another of two equals: compared loosely.
      add({"clip_search w4 g128", fmt::format("N {} I {} S 512", n, i), DType::f32,
           20.0 * count(n, i) * 128.0 + 512.0 * count(i, 128), 4.0 * (count(n, i) + count(512, i)), 1e-2,
           [n = n, i = i](Ops& ops) {
             const std::int64_t group = std::min<std::int64_t>(128, i & -i);  // must divide I when widths are shrunk
             const Tensor w = ops.to_device(weights(DType::f32, n, i, 2)),
                          x = ops.to_device(activations(DType::f32, 512, i, 1)),
                          clip = ops.empty(DType::f32, {n, i / group});
             return BenchRun{[&ops, w, x, clip, group] { ops.clip_search(clip, w, x, GridSpec{}, group); },
                             [&ops, clip] { return ops.to_host(clip); }};
           }});
    }
  }

  void statistics() {
    for (std::int64_t d : widths_) {
      add({"channel_sums bf16", fmt::format("T {} I {}", t_, d), DType::f32, 0.0, 2.0 * count(t_, d), 1e-12,
           [t = t_, d](Ops& ops) {
             const Tensor x = ops.to_device(activations(DType::bf16, t, d, 1));
             const Tensor extremes = Tensor::empty(DType::f32, {2, d});
             std::fill_n(extremes.data<float>(), d, INFINITY);
             std::fill_n(extremes.data<float>() + d, d, -INFINITY);
             const ChannelSums sums{ops.to_device(Tensor::zeros(DType::f64, {5, d})), ops.to_device(extremes)};
             const auto first = std::make_shared<Tensor>();
             return BenchRun{[&ops, x, sums, first] {
                               ops.channel_sums(sums, x);
                               if (!*first) *first = ops.to_host(sums.moments).to(DType::f32);
                             },
                             [first] { return *first; }};
           }});
      add({"histogram bf16", fmt::format("T {} I {} B 1024", t_, d), DType::f32, 0.0, 2.0 * count(t_, d), 0.0,
           [t = t_, d](Ops& ops) {
             const Tensor x = ops.to_device(activations(DType::bf16, t, d, 1)),
                          counts = ops.to_device(Tensor::zeros(DType::i64, {1026}));
             const auto first = std::make_shared<Tensor>();
             return BenchRun{[&ops, x, counts, first] {
                               ops.histogram(counts, x, -4.0, 4.0);
                               if (!*first) *first = ops.to_host(counts).clone();
                             },
                             [first] { return *first; }};
           }});
      add({"round_to_book nf4", fmt::format("R {} B 64", t_ * d / 64), DType::f32, 0.0, 5.0 * count(t_, d), 0.0,
           [t = t_, d](Ops& ops) {
             const std::int64_t rows = t * d / 64;
             const Tensor w = ops.to_device(weights(DType::f32, rows, 64, 2)), codes = ops.empty(DType::u8, {rows, 64}),
                          absmax = ops.empty(DType::f32, {rows});
             return BenchRun{[&ops, w, codes, absmax] { ops.round_to_book(codes, absmax, w, nf4_book); },
                             [&ops, codes] { return ops.to_host(codes); }};
           }});
    }
  }

  std::int64_t t_, shrink_;
  std::set<Pair> linears_, heads_, vocabularies_;
  std::set<std::int64_t> widths_;
  std::vector<BenchCase> cases_;
};

}  // namespace

std::vector<BenchCase> bench_cases(const BenchSizes& sizes) { return Cases(sizes).take(); }

}  // namespace ptq

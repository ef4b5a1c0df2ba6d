// Cases of `ptq bench` that memory bounds: norms, gates, statistics.
#include "cli/bench_cases.h"
#include "cli/bench_inputs.h"
#include "model/nf4_book.h"

#include <fmt/format.h>

#include <cmath>

namespace ptq {

namespace {

void add_layers(std::vector<BenchCase>& cases, const BenchShapes& s) {
  for (std::int64_t d : s.widths) {
    const double values = area(s.tokens, d);
    cases.push_back(
        {"norm rms bf16", fmt::format("T {} D {}", s.tokens, d), DType::f32, 0.0, 4.0 * values,
         float_tolerance(DType::bf16), [t = s.tokens, d](Ops& ops) {
           const Tensor x = ops.to_device(bench_activations(DType::bf16, t, d, 1)), y = ops.empty(DType::bf16, {t, d}),
                        w = ops.to_device(bench_activations(DType::f32, 1, d, 2));
           return BenchRun{[&ops, x, y, w] { ops.norm(y, x, w, {}, {}); }, [&ops, y] { return ops.to_host(y); }};
         }});
    cases.push_back({"activate silu bf16", fmt::format("T {} F {}", s.tokens, d), DType::f32, 0.0, 6.0 * values,
                     float_tolerance(DType::bf16), [t = s.tokens, d](Ops& ops) {
                       const Tensor gate = ops.to_device(bench_activations(DType::bf16, t, d, 1)),
                                    up = ops.to_device(bench_activations(DType::bf16, t, d, 2)),
                                    y = ops.empty(DType::bf16, {t, d});
                       return BenchRun{[&ops, gate, up, y] { ops.activate(y, gate, up, Activation::silu); },
                                       [&ops, y] { return ops.to_host(y); }};
                     }});
    cases.push_back({"quantize_rows bf16", fmt::format("T {} I {}", s.tokens, d), DType::f32, 0.0, 3.0 * values, 0.0,
                     [t = s.tokens, d](Ops& ops) {
                       const Tensor x = ops.to_device(bench_activations(DType::bf16, t, d, 1));
                       const auto rows = std::make_shared<Int8Rows>();
                       return BenchRun{[&ops, x, rows] { *rows = ops.quantize_rows(x); },
                                       [&ops, rows] { return ops.to_host(rows->codes); }};
                     }});
  }
  std::set<std::int64_t> heads;  // rotated alike, whatever they share
  for (const auto& [h, k] : s.heads) heads.insert(h);
  for (const std::int64_t h : heads) {
    cases.push_back({"rope bf16", fmt::format("T {} H {} C 128", s.tokens, h), DType::f32, 0.0,
                     4.0 * area(s.tokens, h * 128), float_tolerance(DType::bf16), [t = s.tokens, h](Ops& ops) {
                       const Renewed x(ops, bench_activations(DType::bf16, t, h * 128, 1));
                       const Tensor cos = ops.to_device(bench_activations(DType::f32, t, 64, 2)),
                                    sin = ops.to_device(bench_activations(DType::f32, t, 64, 3));
                       return BenchRun{[&ops, x, cos, sin, h] {
                                         ops.rope(x.tensor(), cos, sin, static_cast<int>(h), RopeStyle::half_split);
                                       },
                                       [&ops, x] { return ops.to_host(x.tensor()); }, x};
                     }});
  }
}

void add_statistics(std::vector<BenchCase>& cases, const BenchShapes& s) {
  for (std::int64_t d : s.widths) {
    cases.push_back({"channel_sums bf16", fmt::format("T {} I {}", s.tokens, d), DType::f32, 0.0,
                     2.0 * area(s.tokens, d), 1e-12, [t = s.tokens, d](Ops& ops) {
                       const Tensor x = ops.to_device(bench_activations(DType::bf16, t, d, 1));
                       const Tensor extremes = Tensor::empty(DType::f32, {2, d});
                       std::fill_n(extremes.data<float>(), d, INFINITY);
                       std::fill_n(extremes.data<float>() + d, d, -INFINITY);
                       const Renewed moments(ops, Tensor::zeros(DType::f64, {5, d})), range(ops, extremes);
                       return BenchRun{[&ops, x, moments, range] {
                                         ops.channel_sums({moments.tensor(), range.tensor()}, x);
                                       },
                                       [&ops, moments] { return ops.to_host(moments.tensor()).to(DType::f32); },
                                       [moments, range] {
                                         moments();
                                         range();
                                       }};
                     }});
    cases.push_back({"histogram bf16", fmt::format("T {} I {} B 1024", s.tokens, d), DType::f32, 0.0,
                     2.0 * area(s.tokens, d), 0.0, [t = s.tokens, d](Ops& ops) {
                       const Tensor x = ops.to_device(bench_activations(DType::bf16, t, d, 1));
                       const Renewed counts(ops, Tensor::zeros(DType::i64, {1026}));
                       return BenchRun{[&ops, x, counts] { ops.histogram(counts.tensor(), x, -4.0, 4.0); },
                                       [&ops, counts] { return ops.to_host(counts.tensor()); }, counts};
                     }});
    cases.push_back({"round_to_book nf4", fmt::format("R {} B 64", s.tokens * d / 64), DType::f32, 0.0,
                     5.0 * area(s.tokens, d), 0.0, [t = s.tokens, d](Ops& ops) {
                       const std::int64_t rows = t * d / 64;
                       const Tensor w = ops.to_device(bench_weights(DType::f32, rows, 64)),
                                    codes = ops.empty(DType::u8, {rows, 64}), absmax = ops.empty(DType::f32, {rows});
                       return BenchRun{[&ops, w, codes, absmax] { ops.round_to_book(codes, absmax, w, nf4_book); },
                                       [&ops, codes] { return ops.to_host(codes); }};
                     }});
  }
}

}  // namespace

void add_layer_cases(std::vector<BenchCase>& cases, const BenchShapes& s) {
  add_layers(cases, s);
  add_statistics(cases, s);
}

}  // namespace ptq

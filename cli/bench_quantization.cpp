// Cases of `ptq bench`: Hessians, GPTQ, AWQ.
#include "cli/bench_cases.h"
#include "cli/bench_inputs.h"

#include <fmt/format.h>

namespace ptq {

namespace {

void add_gram(std::vector<BenchCase>& cases, const BenchShapes& s) {
  for (DType type : {DType::bf16, DType::f32}) {
    for (std::int64_t d : s.widths) {
      cases.push_back({fmt::format("gram {}", short_name(type)), fmt::format("T {} I {}", 4 * s.tokens, d), type,
                       static_cast<double>(4 * s.tokens) * area(d, d),
                       static_cast<double>(size_of(type)) * area(4 * s.tokens, d) + 4.0 * area(d, d), 1e-5,
                       [type, t = 4 * s.tokens, d](Ops& ops) {
                         const Tensor x = ops.to_device(bench_activations(type, t, d, 1));
                         const Renewed h(ops, Tensor::zeros(DType::f32, {d, d}));
                         return BenchRun{[&ops, x, h] { ops.gram(h.tensor(), x); },
                                         [&ops, h] { return upper_triangle(ops.to_host(h.tensor())); }, h};
                       }});
    }
  }
}

void add_factor(std::vector<BenchCase>& cases, const BenchShapes& s) {
  for (std::int64_t d : s.widths) {
    cases.push_back({"factor_inverse f32", fmt::format("I {}", d), DType::f32,
                     2.0 / 3.0 * area(d, d) * static_cast<double>(d), 8.0 * area(d, d), 1e-4, [d](Ops& ops) {
                       const Renewed h(ops, bench_hessian(d));
                       return BenchRun{[&ops, h] {
                                         check(ops.factor_inverse(h.tensor()), "bench: the Hessian cannot be factored");
                                       },
                                       [&ops, h] { return ops.to_host(h.tensor()); }, h};
                     }});
  }
}

void add_awq(std::vector<BenchCase>& cases, const BenchShapes& s) {
  for (const auto& [n, i] : s.linears) {
    cases.push_back(
        {"round_scaled w4 g128", fmt::format("N {} I {}", n, i), DType::f32, 0.0, 8.0 * area(n, i), 0.0,
         [n = n, i = i](Ops& ops) {
           const Tensor w = ops.to_device(bench_weights(DType::f32, n, i)), y = ops.empty(DType::f32, {n, i});
           const Tensor t = Tensor::empty(DType::f32, {i});
           for (std::int64_t c = 0; c < i; ++c) t.data<float>()[c] = 0.5f + static_cast<float>(c % 7) / 8.0f;
           const Tensor scale = ops.to_device(t);
           return BenchRun{[&ops, w, y, scale] { ops.round_scaled(y, w, scale, GridSpec{}, 128); },
                           [&ops, y] { return ops.to_host(y); }};
         }});
    cases.push_back(
        {"gram_loss", fmt::format("N {} I {}", n, i), DType::f32, product_flops(1, n, i) * static_cast<double>(i),
         4.0 * (area(n, i) + area(i, i) / 2), 1e-5, [n = n, i = i](Ops& ops) {
           const Tensor d = ops.to_device(bench_weights(DType::f32, n, i)), g = ops.to_device(bench_hessian(i)),
                        y = Tensor::empty(DType::f32, {1});
           return BenchRun{[&ops, d, g, y] { y.data<float>()[0] = static_cast<float>(ops.gram_loss(d, g)); },
                           [y] { return y; }};
         }});
    // Errors of candidates that differ by rounding may pick another of two equals: compared loosely.
    cases.push_back({"clip_search w4 g128", fmt::format("N {} I {} S 512", n, i), DType::f32,
                     20.0 * area(n, i) * 128.0 + 512.0 * area(i, 128), 4.0 * (area(n, i) + area(512, i)), 1e-2,
                     [n = n, i = i](Ops& ops) {
                       const std::int64_t group =
                           std::min<std::int64_t>(128, i & -i);  // must divide I when widths are shrunk
                       const Tensor w = ops.to_device(bench_weights(DType::f32, n, i)),
                                    x = ops.to_device(bench_activations(DType::f32, 512, i, 1)),
                                    clip = ops.empty(DType::f32, {n, i / group});
                       return BenchRun{[&ops, w, x, clip, group] { ops.clip_search(clip, w, x, GridSpec{}, group); },
                                       [&ops, clip] { return ops.to_host(clip); }};
                     }});
  }
}

}  // namespace

BenchCase sweep_case(std::int64_t n, std::int64_t i) {
  return {"gptq_sweep w4 g128",
          fmt::format("N {} I {}", n, i),
          DType::f32,
          area(n, i) * static_cast<double>(i),
          9.0 * area(n, i) + 4.0 * area(i, i),
          0.0,
          [=](Ops& ops) {
            const Renewed w(ops, bench_weights(DType::f32, n, i));
            const Tensor u = ops.to_device(bench_hessian(i));
            const std::int64_t groups = (i + 127) / 128;
            const GroupedCodes out{ops.empty(DType::u8, {n, i}), ops.empty(DType::f32, {n, groups}),
                                   ops.empty(DType::f32, {n, groups})};
            const Tensor error = ops.empty(DType::f64, {n});
            return BenchRun{[&ops, w, u, out, error] {
                              ops.gptq_sweep(w.tensor(), out, error, u, {GridSpec{}, 128, 128}, false, {});
                            },
                            [&ops, out] { return ops.to_host(out.codes); }, w};
          }};
}

void add_quantization_cases(std::vector<BenchCase>& cases, const BenchShapes& s) {
  add_gram(cases, s);
  add_factor(cases, s);
  for (const auto& [n, i] : s.linears) cases.push_back(sweep_case(n, i));
  add_awq(cases, s);
}

}  // namespace ptq

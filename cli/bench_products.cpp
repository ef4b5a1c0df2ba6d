// Cases of `ptq bench`: linears in all formats, attention, the LM head.
#include "cli/bench_cases.h"
#include "cli/bench_inputs.h"

#include <fmt/format.h>

namespace ptq {

namespace {

WeightFormat format_of(DType t) {
  return t == DType::bf16 ? WeightFormat::bf16 : t == DType::f16 ? WeightFormat::f16 : WeightFormat::f32;
}

void add_linear_s8(std::vector<BenchCase>& cases, const BenchShapes& s) {
  for (const auto& [n, i] : s.linears) {
    cases.push_back(
        {"linear_s8", fmt::format("T {} N {} I {}", s.tokens, n, i), DType::i8, product_flops(s.tokens, n, i),
         area(s.tokens, i) + area(n, i) + 2.0 * area(s.tokens, n), 0.0, [t = s.tokens, n = n, i = i](Ops& ops) {
           const Int8Rows x = ops.quantize_rows(ops.to_device(bench_activations(DType::f32, t, i, 1)));
           const Tensor y = ops.empty(DType::bf16, {t, n});
           const WeightPtr w = ops.pack(bench_weights(DType::f32, n, i), WeightFormat::s8);
           return BenchRun{[&ops, x, y, w] { ops.linear_s8(y, x, *w, {}); }, [&ops, y] { return ops.to_host(y); }};
         }});
  }
}

void add_coded(std::vector<BenchCase>& cases, const BenchShapes& s, int bits) {
  for (const auto& [n, i] : s.linears) {
    cases.push_back(
        {fmt::format("linear u{} bf16", bits), fmt::format("T {} N {} I {} g128", s.tokens, n, i), DType::bf16,
         product_flops(s.tokens, n, i), 2.0 * (area(s.tokens, i) + area(s.tokens, n)) + area(n, i) * bits / 8.0,
         float_tolerance(DType::bf16), [=, t = s.tokens, n = n, i = i](Ops& ops) {
           const Tensor x = ops.to_device(bench_activations(DType::bf16, t, i, 1)), y = ops.empty(DType::bf16, {t, n});
           const WeightPtr w = ops.pack_codes(bench_codes(bits, n, i), DType::bf16);
           return BenchRun{[&ops, x, y, w] { ops.linear(y, x, *w, {}); }, [&ops, y] { return ops.to_host(y); }};
         }});
  }
}

void add_few(std::vector<BenchCase>& cases, const BenchShapes& s) {
  for (std::int64_t rows : {1, 4, 16}) {
    for (int bits : {16, 8, 4}) {
      for (const auto& [n, i] : s.linears) {
        const std::string kind = bits == 16 ? "bf16" : fmt::format("u{} bf16", bits);
        cases.push_back(
            {"linear_few " + kind, fmt::format("T {} N {} I {}", rows, n, i), DType::bf16, product_flops(rows, n, i),
             area(n, i) * bits / 8.0 + 2.0 * (area(rows, i) + area(rows, n)), float_tolerance(DType::bf16),
             [=, n = n, i = i](Ops& ops) {
               const Tensor x = ops.to_device(bench_activations(DType::bf16, rows, i, 1)),
                            y = ops.empty(DType::bf16, {rows, n});
               const WeightPtr w = bits == 16 ? ops.pack(bench_weights(DType::bf16, n, i), WeightFormat::bf16)
                                              : ops.pack_codes(bench_codes(bits, n, i), DType::bf16);
               return BenchRun{[&ops, x, y, w] { ops.linear_few(y, x, *w, {}); }, [&ops, y] { return ops.to_host(y); }};
             }});
      }
    }
  }
}

// LM head, log-softmax and gather of one target a row.
void add_head(std::vector<BenchCase>& cases, const BenchShapes& s) {
  for (const auto& [v, d] : s.vocabularies) {
    cases.push_back({"token_logprobs bf16", fmt::format("T {} V {} D {}", s.tokens, v, d), DType::bf16,
                     product_flops(s.tokens, v, d), 2.0 * (area(s.tokens, d) + area(v, d)), 1e-4,
                     [t = s.tokens, v = v, d = d](Ops& ops) {
                       const Tensor x = ops.to_device(bench_activations(DType::bf16, t, d, 1)),
                                    y = Tensor::empty(DType::f64, {t});
                       const WeightPtr w = ops.pack(bench_weights(DType::bf16, v, d), WeightFormat::bf16);
                       std::vector<Target> targets;
                       for (std::int32_t r = 0; r < t; ++r)
                         targets.push_back({r, static_cast<std::int32_t>((r * 31 + 7) % v)});
                       return BenchRun{[&ops, x, y, w, targets] {
                                         const std::vector<double> p = ops.token_logprobs(x, targets, *w, {});
                                         std::copy(p.begin(), p.end(), y.data<double>());
                                       },
                                       [y] { return y.to(DType::f32); }};
                     }});
  }
}

}  // namespace

BenchCase linear_case(DType type, std::int64_t t, std::int64_t n, std::int64_t i) {
  return {fmt::format("linear {}", short_name(type)),
          fmt::format("T {} N {} I {}", t, n, i),
          type,
          product_flops(t, n, i),
          static_cast<double>(size_of(type)) * (area(t, i) + area(n, i) + area(t, n)),
          float_tolerance(type),
          [=](Ops& ops) {
            const Tensor x = ops.to_device(bench_activations(type, t, i, 1)), y = ops.empty(type, {t, n});
            const WeightPtr w = ops.pack(bench_weights(type, n, i), format_of(type));
            return BenchRun{[&ops, x, y, w] { ops.linear(y, x, *w, {}); }, [&ops, y] { return ops.to_host(y); }};
          }};
}

BenchCase attention_case(DType type, std::int64_t t, std::int64_t h, std::int64_t k) {
  constexpr std::int64_t c = 128;
  // Half of the square is masked.
  return {fmt::format("attention {}", short_name(type)),
          fmt::format("T {} H {} K {} C {}", t, h, k, c),
          type,
          2.0 * area(t, t) * static_cast<double>(h * c),
          static_cast<double>(size_of(type)) * 2.0 * area(t, (h + k) * c),
          float_tolerance(type),
          [=](Ops& ops) {
            const Tensor q = ops.to_device(bench_activations(type, t, h * c, 1, 0.5f)),
                         keys = ops.to_device(bench_activations(type, t, k * c, 2, 0.5f)),
                         values = ops.to_device(bench_activations(type, t, k * c, 3)), o = ops.empty(type, {t, h * c});
            const AttentionSpec spec{static_cast<int>(h), static_cast<int>(k), c, 0.08838835f, 0.0f, 0};
            const std::vector<Segment> segments{{0, static_cast<std::int32_t>(t), -1}};
            return BenchRun{
                [&ops, o, q, keys, values, segments, spec] { ops.attention(o, q, keys, values, segments, spec); },
                [&ops, o] { return ops.to_host(o); }};
          }};
}

void add_product_cases(std::vector<BenchCase>& cases, const BenchShapes& s) {
  for (DType type : {DType::bf16, DType::f16, DType::f32})
    for (const auto& [n, i] : s.linears) cases.push_back(linear_case(type, s.tokens, n, i));
  add_linear_s8(cases, s);
  for (int bits : {4, 8}) add_coded(cases, s, bits);
  add_few(cases, s);
  for (DType type : {DType::bf16, DType::f32})
    for (const auto& [h, k] : s.heads) cases.push_back(attention_case(type, s.tokens, h, k));
  add_head(cases, s);
}

}  // namespace ptq

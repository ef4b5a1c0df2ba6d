#include "cli/bench_cases.h"

#include <algorithm>

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

// A rung of the ladder is run on what its production kernel would do.
void add_step_cases(std::vector<BenchCase>& cases, const BenchShapes& s) {
  const auto [n, i] = *std::ranges::find_if(s.linears, [](const auto& shape) { return shape.first == shape.second; });
  const auto [heads, kv_heads] = *s.heads.begin();
  for (const std::string& step : ladder_steps()) {
    BenchCase c = step.starts_with("gemm")        ? linear_case(DType::bf16, s.tokens, n, i)
                  : step.starts_with("attention") ? attention_case(DType::bf16, s.tokens, heads, kv_heads)
                                                  : sweep_case(n, i);
    c.op = "steps " + step;
    c.step = step;
    cases.push_back(std::move(c));
  }
}

}  // namespace

BenchShapes::BenchShapes(const BenchSizes& sizes) : tokens(sizes.tokens) {
  for (const PaperModel& m : paper_models) {
    const std::int64_t d = m.width / sizes.shrink, f = m.feed_forward / sizes.shrink, h = m.heads / sizes.shrink;
    const std::int64_t k = std::max<std::int64_t>(1, m.kv_heads / sizes.shrink);
    linears.insert({{d, d}, {k * m.head_dim, d}, {f, d}, {d, f}});
    widths.insert({d, f});
    heads.insert({h, k});
    vocabularies.insert({m.vocab / sizes.shrink, d});
  }
}

std::vector<BenchCase> bench_cases(const BenchSizes& sizes) {
  const BenchShapes shapes(sizes);
  std::vector<BenchCase> cases;
  add_product_cases(cases, shapes);
  add_layer_cases(cases, shapes);
  add_quantization_cases(cases, shapes);
  add_step_cases(cases, shapes);
  return cases;
}

}  // namespace ptq

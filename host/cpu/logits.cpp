// The LM head: logits of chosen rows, and log-probabilities of targets without ever holding a row of logits.
#include "host/cpu/block_product.h"
#include "host/cpu/cpu_ops.h"
#include "host/op_checks.h"

#include <cmath>

namespace ptq {

namespace {

void transform(float* x, std::int64_t n, const LogitSpec& spec) {
  if (spec.scale != 1.0f) {
    for (std::int64_t i = 0; i < n; ++i) x[i] *= spec.scale;
  }
  if (spec.soft_cap <= 0.0f) return;
  using namespace simd;
  const auto cap = [&](const float* p) { return splat(spec.soft_cap) * tanh(load(p) / splat(spec.soft_cap)); };
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) store(x + i, cap(x + i));
  if (i < n) {
    float rest[lanes] = {};
    std::copy(x + i, x + n, rest);
    store(rest, cap(rest));
    std::copy(rest, rest + (n - i), x + i);
  }
}

// Softmax statistics of part of a row: sum e^x = sum * e^max.
struct Statistics {
  float max;
  double sum;
};

Statistics statistics(const float* x, std::int64_t n) {
  using namespace simd;
  vfloat top = -infinity();
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) top = simd::max(load(x + i), top);
  float max = top[0];
  for (int l = 1; l < lanes; ++l) max = std::max(max, top[l]);
  for (std::int64_t j = i; j < n; ++j) max = std::max(max, x[j]);
  if (!(max > -std::numeric_limits<float>::infinity())) max = 0.0f;  // nothing to scale by; sum becomes 0 or NaN
  vfloat sums{};
  for (i = 0; i + lanes <= n; i += lanes) sums += simd::exp(load(x + i) - splat(max));
  double sum = 0.0;
  for (int l = 0; l < lanes; ++l) sum += sums[l];
  if (i < n) {
    float rest[lanes];
    for (int l = 0; l < lanes; ++l) rest[l] = i + l < n ? x[i + l] : -std::numeric_limits<float>::infinity();
    const vfloat e = simd::exp(load(rest) - splat(max));
    for (int l = 0; l < n - i; ++l) sum += e[l];
  }
  return {max, sum};
}

// log sum e^x of a row from its panels, in their order.
double log_sum_exp(const Statistics* parts, std::int64_t count, std::int64_t stride) {
  double max = -std::numeric_limits<double>::infinity(), sum = 0.0;
  for (std::int64_t p = 0; p < count; ++p) max = std::max(max, static_cast<double>(parts[p * stride].max));
  for (std::int64_t p = 0; p < count; ++p) sum += parts[p * stride].sum * std::exp(parts[p * stride].max - max);
  return max + std::log(sum);
}

}  // namespace

void CpuOps::logits(const Tensor& y, const Tensor& x, const Weight& weight, const LogitSpec& spec) {
  const PackedWeight& w = packed(weight);
  const std::int64_t v = w.out_features();
  op_checks::linear("logits", DType::f32, w.input(), y, x, w, {});
  float* out = y.data<float>();
  for_each_block<float>(w, {x, {}}, threads_,
                        [&](std::int64_t first, std::int64_t count, const Panel& panel, std::int64_t, float* c) {
                          transform(c, count * panel.width, spec);
                          for (std::int64_t r = 0; r < count; ++r) {
                            simd::to_floats(c + r * panel.width, out + (first + r) * v + panel.begin, panel.width);
                          }
                        });
}

std::vector<double> CpuOps::token_logprobs(const Tensor& x, std::span<const Target> targets, const Weight& weight,
                                           const LogitSpec& spec) {
  const PackedWeight& w = packed(weight);
  op_checks::token_logprobs(x, targets, w);
  const auto panels = static_cast<std::int64_t>(w.panels().size());
  std::vector<std::int32_t> rows;  // the distinct rows that are asked for, ascending
  for (const Target& t : targets) rows.push_back(t.row);
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  if (rows.empty()) return {};

  const auto place = [&](std::int32_t row) { return std::lower_bound(rows.begin(), rows.end(), row) - rows.begin(); };
  struct Wanted {
    std::int64_t place;  // in rows
    std::int32_t token;
    std::size_t target;
  };
  std::vector<std::vector<Wanted>> wanted(rows.size() / row_tile + 1);  // by row tile
  for (std::size_t i = 0; i < targets.size(); ++i) {
    const std::int64_t at = place(targets[i].row);
    wanted[static_cast<std::size_t>(at / row_tile)].push_back({at, targets[i].token, i});
  }

  std::vector<Statistics> parts(rows.size() * static_cast<std::size_t>(panels));
  std::vector<double> result(targets.size());
  for_each_block<float>(w, {x, rows}, threads_,
                        [&](std::int64_t first, std::int64_t count, const Panel& panel, std::int64_t p, float* c) {
                          transform(c, count * panel.width, spec);
                          for (std::int64_t r = 0; r < count; ++r) {
                            parts[static_cast<std::size_t>((first + r) * panels + p)] =
                                statistics(c + r * panel.width, panel.width);
                          }
                          for (const Wanted& t : wanted[static_cast<std::size_t>(first / row_tile)]) {
                            if (t.token < panel.begin || t.token >= panel.begin + panel.width) continue;
                            result[t.target] = c[(t.place - first) * panel.width + (t.token - panel.begin)];
                          }
                        });
  std::vector<double> normaliser(rows.size());
  for (std::size_t r = 0; r < rows.size(); ++r) {
    normaliser[r] = log_sum_exp(parts.data() + static_cast<std::int64_t>(r) * panels, panels, 1);
  }
  for (std::size_t i = 0; i < targets.size(); ++i) {
    result[i] -= normaliser[static_cast<std::size_t>(place(targets[i].row))];
  }
  return result;
}

}  // namespace ptq

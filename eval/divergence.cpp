#include "eval/divergence.h"

#include "host/error.h"
#include "host/range.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace ptq {

namespace {

// The first of the largest.
std::ptrdiff_t top1(std::span<const float> logits) {
  return std::max_element(logits.begin(), logits.end()) - logits.begin();
}

// What is collected on the way.
struct Collector {
  std::vector<double> kl;  // of every token
  std::int64_t agreements = 0;

  void add(const Tensor& p, const Tensor& q) {
    const auto vocab = static_cast<std::size_t>(p.cols());
    for (std::int64_t r = 0; r < p.rows(); ++r) {
      const auto a = p.span<float>().subspan(static_cast<std::size_t>(r) * vocab, vocab);
      const auto b = q.span<float>().subspan(static_cast<std::size_t>(r) * vocab, vocab);
      kl.push_back(kl_of_logits(a, b));
      agreements += top1(a) == top1(b) ? 1 : 0;
    }
  }
};

}  // namespace

std::int64_t divergence_rows(std::int64_t vocab) {
  constexpr std::int64_t elements = std::int64_t{8} << 20;
  return std::max<std::int64_t>(64, elements / vocab / 64 * 64);
}

double kl_of_logits(std::span<const float> p, std::span<const float> q) {
  // sum P (p - q) + log Z_q - log Z_p, with both exponentials taken relative to their largest logit.
  const double top_p = *std::max_element(p.begin(), p.end()), top_q = *std::max_element(q.begin(), q.end());
  double z_p = 0.0, z_q = 0.0, sum = 0.0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    const double a = p[i] - top_p, b = q[i] - top_q, weight = std::exp(a);
    z_p += weight;
    z_q += std::exp(b);
    if (weight > 0.0) sum += weight * (a - b);  // 0 log 0 = 0
  }
  return sum / z_p + std::log(z_q) - std::log(z_p);
}

Divergence divergence(const Transformer& model, const Transformer& against, std::span<const std::int32_t> ids,
                      const PerplexityOptions& options) {
  require(model.config().vocab == against.config().vocab, Exit::data,
          "kld: the vocabularies have {} and {} entries; --against takes the model that was quantized",
          model.config().vocab, against.config().vocab);
  const auto windows = cut_windows(ids, options.seqlen, options.windows);
  const auto count = static_cast<std::int64_t>(windows.size());
  const std::int64_t predicted = options.seqlen - 1, step = divergence_rows(model.config().vocab);
  Collector all;
  std::int64_t batches = 0;
  for_each_batch(count, options.seqlen, options.batch_tokens, [&](std::int64_t first, std::int64_t last) {
    const Range range(model.ops(), "batch {}", batches++);
    Batch batch;
    for (std::int64_t w = first; w < last; ++w) batch.append(windows[static_cast<std::size_t>(w)]);
    const Tensor h = model.forward(batch), reference = against.forward(batch);
    for (const Segment& s : batch.segments) {
      for (std::int64_t row = s.begin; row < s.begin + predicted; row += step) {
        const std::int64_t end = std::min(s.begin + predicted, row + step);
        all.add(against.ops().to_host(against.logits(reference.slice_rows(row, end))),
                model.ops().to_host(model.logits(h.slice_rows(row, end))));
      }
    }
    if (options.progress) options.progress(last, count);
  });

  Divergence result;
  for (auto at = all.kl.begin(); at != all.kl.end(); at += predicted) {
    double sum = 0.0;
    for (auto token = at; token != at + predicted; ++token) sum += *token;
    require(std::isfinite(sum), Exit::numerics, "kld: the divergence in window {} is {}", result.window_mean.size(),
            sum);
    result.window_mean.push_back(sum / static_cast<double>(predicted));
  }
  result.kld = mean_stderr(result.window_mean);
  result.tokens = static_cast<std::int64_t>(all.kl.size());
  result.top1_agreement = static_cast<double>(all.agreements) / static_cast<double>(result.tokens);
  const auto rank = all.kl.begin() + (result.tokens * 99 + 99) / 100 - 1;
  std::nth_element(all.kl.begin(), rank, all.kl.end());
  result.p99 = *rank;
  return result;
}

nlohmann::json divergence_json(const Divergence& result) {
  nlohmann::json json = metric_json(result.kld);
  json["top1_agreement"] = result.top1_agreement;
  json["p99"] = result.p99;
  json["tokens"] = result.tokens;
  json["windows"] = result.kld.n;
  return json;
}

}  // namespace ptq

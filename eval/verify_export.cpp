#include "eval/verify_export.h"

#include "eval/divergence.h"
#include "model/activation_card.h"
#include "quant/checkpoint_files.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <random>

namespace ptq {

namespace {

// Half the distance of neighbours, relative to the number, and absolute where numbers are subnormal.
struct Rounding {
  double relative, absolute;
};

Rounding rounding_of(DType dtype) {
  switch (dtype) {
    case DType::f16:
      return {0x1p-11, 0x1p-25};
    case DType::bf16:
      return {0x1p-8, 0x1p-134};
    default:
      return {0x1p-24, 0x1p-150};
  }
}

// How far a weight may be off because its scale was rounded: |c - z| (u s + a), per weight.
Tensor scale_rounding(const ModelFiles& files, int layer, LinearRole role, Rounding u) {
  CodedWeight w;
  if (auto codes = files.linear_codes(layer, role)) {
    w = std::move(*codes);
  } else if (auto int8 = files.linear_int8(layer, role)) {
    Int8Weight bound{int8->codes, Tensor::empty(DType::f32, int8->scales.shape())};
    for (std::int64_t n = 0; n < bound.scales.numel(); ++n) {
      bound.scales.data<float>()[n] =
          static_cast<float>(u.relative * std::fabs(int8->scales.data<float>()[n]) + u.absolute);
    }
    return dequantize(bound);
  } else {
    return {};
  }
  Tensor scales = Tensor::empty(DType::f32, w.scales.shape());
  for (std::int64_t k = 0; k < scales.numel(); ++k) {
    scales.data<float>()[k] = static_cast<float>(u.relative * std::fabs(w.scales.data<float>()[k]) + u.absolute);
  }
  w.scales = scales;
  return dequantize(w);
}

class WeightComparer {
 public:
  WeightComparer(const ModelFiles& exported, const ModelFiles& other, bool judged)
      : a_(exported),
        b_(other),
        judged_(judged),
        round_a_(rounding_of(exported.config().stored_dtype)),
        round_b_(rounding_of(other.config().stored_dtype)) {}

  void linear(int layer, LinearRole role) {
    const std::string module = a_.linear_ref(layer, role).module;
    const Tensor a = a_.linear_weight(layer, role, DType::f32), b = b_.linear_weight(layer, role, DType::f32);
    const Tensor bound = judged_ ? scale_rounding(a_, layer, role, round_a_) : Tensor();
    const float *x = a.data<float>(), *y = b.data<float>(), *e = bound ? bound.data<float>() : nullptr;
    for (std::int64_t i = 0; i < a.numel(); ++i) {
      const double difference = std::fabs(static_cast<double>(x[i]) - static_cast<double>(y[i]));
      squares_ += difference * difference;
      norm_ += static_cast<double>(y[i]) * static_cast<double>(y[i]);
      if (!judged_) continue;
      // Both products are formed in fp32 as well.
      const double allowed = (e ? std::fabs(static_cast<double>(e[i])) : round_a_.relative * std::fabs(x[i])) * 1.001 +
                             (round_b_.relative + 0x1p-22) * std::fabs(y[i]) + round_b_.absolute;
      use(difference, allowed, module);
    }
    ++result_.tensors;
  }

  void others() {
    const std::set<std::string> linears = linear_tensors(b_);
    for (const auto& [name, info] : b_.checkpoint().tensors()) {
      const auto at = a_.checkpoint().tensors().find(name);
      if (at == a_.checkpoint().tensors().end() || !is_float(info.dtype) || !is_float(at->second.dtype)) continue;
      if (at->second.shape != info.shape || linears.contains(name)) continue;
      const Tensor a = a_.checkpoint().read(name, DType::f32), b = b_.checkpoint().read(name, DType::f32);
      for (std::int64_t i = 0; judged_ && i < a.numel(); ++i) {
        const double x = a.data<float>()[i], y = b.data<float>()[i];
        use(std::fabs(x - y),
            (round_a_.relative + round_b_.relative) * 1.001 * std::max(std::fabs(x), std::fabs(y)) + round_a_.absolute +
                round_b_.absolute,
            name);
      }
      ++result_.tensors;
    }
  }

  WeightComparison finish() {
    result_.relative_error = norm_ > 0.0 ? squares_ / norm_ : 0.0;
    return result_;
  }

 private:
  void use(double difference, double allowed, const std::string& where) {
    const double share = difference == 0.0 ? 0.0 : difference / allowed;
    if (share <= result_.rounding_used || std::isnan(result_.rounding_used)) return;  // the first NaN stays
    result_.rounding_used = share;
    result_.worst = where;
  }

  const ModelFiles &a_, &b_;
  bool judged_;
  Rounding round_a_, round_b_;
  double squares_ = 0.0, norm_ = 0.0;
  WeightComparison result_;
};

}  // namespace

bool same_run(const ModelFiles& exported, const ModelFiles& other) {
  const nlohmann::json a = read_card(exported.directory()), b = read_card(other.directory());
  if (a.is_null() || b.is_null() || !exported.packed() || other.packed()) return false;
  const auto equal = [&](const char* key) { return a.contains(key) && b.contains(key) && a.at(key) == b.at(key); };
  return equal("scheme") && equal("method") && equal("parameters") && equal("source") && equal("calibration") &&
         equal("compute_dtype") && b.value("format", nlohmann::json()) == "fake";
}

WeightComparison compare_weights(const ModelFiles& exported, const ModelFiles& other, bool judged) {
  const ModelConfig &a = exported.config(), &b = other.config();
  require(a.family == b.family && a.vocab == b.vocab && a.width == b.width && a.ffn == b.ffn && a.layers == b.layers &&
              a.q_width() == b.q_width() && a.kv_width() == b.kv_width(),
          Exit::data, "{} and {} are not models of one shape", exported.directory().string(),
          other.directory().string());
  WeightComparer comparer(exported, other, judged);
  for (int layer = 0; layer < a.layers; ++layer) {
    for (LinearRole role : all_linear_roles) {
      if (exported.has_linear(role)) comparer.linear(layer, role);
    }
  }
  comparer.others();
  return comparer.finish();
}

LogitComparison compare_logits(const Transformer& exported, const Transformer& other,
                               std::span<const std::vector<std::int32_t>> sequences) {
  LogitComparison c;
  double squares = 0.0, reference = 0.0, kl = 0.0;
  std::int64_t agreements = 0, values = 0;
  for (const std::vector<std::int32_t>& ids : sequences) {
    Batch batch;
    batch.append(ids);
    Ops &ops = exported.ops(), &other_ops = other.ops();
    const Tensor a = ops.to_host(exported.logits(exported.forward(batch)));
    const Tensor b = other_ops.to_host(other.logits(other.forward(batch)));
    const auto vocab = static_cast<std::size_t>(a.cols());
    for (std::int64_t t = 0; t < a.rows(); ++t) {
      const auto x = a.span<float>().subspan(static_cast<std::size_t>(t) * vocab, vocab);
      const auto y = b.span<float>().subspan(static_cast<std::size_t>(t) * vocab, vocab);
      double mean = 0.0;
      for (const float v : y) mean += v / static_cast<double>(vocab);
      for (std::size_t i = 0; i < vocab; ++i) {
        if (!std::isfinite(x[i])) ++c.non_finite;
        const double d = static_cast<double>(x[i]) - static_cast<double>(y[i]);
        c.max = std::max(c.max, std::fabs(d));
        squares += d * d;
        reference += (y[i] - mean) * (y[i] - mean);
      }
      kl += kl_of_logits(y, x);
      const bool agree =
          std::max_element(x.begin(), x.end()) - x.begin() == std::max_element(y.begin(), y.end()) - y.begin();
      agreements += agree ? 1 : 0;
    }
    c.positions += a.rows();
    values += a.numel();
  }
  if (values == 0) return c;
  c.rms = std::sqrt(squares / static_cast<double>(values));
  c.relative_rms = reference > 0.0 ? std::sqrt(squares / reference) : 0.0;
  c.top1_agreement = static_cast<double>(agreements) / static_cast<double>(c.positions);
  c.kld = kl / static_cast<double>(c.positions);
  return c;
}

double logit_bound(const ModelConfig& config, DType scales) {
  return 8.0 * rounding_of(scales).relative * std::sqrt(4.0 * config.layers);
}

std::vector<std::vector<std::int32_t>> random_windows(const ModelConfig& config, int windows, std::int64_t length,
                                                      std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::vector<std::int32_t>> all(static_cast<std::size_t>(windows));
  for (std::vector<std::int32_t>& ids : all) {
    if (config.bos >= 0) ids.push_back(config.bos);
    while (static_cast<std::int64_t>(ids.size()) < length) {
      ids.push_back(static_cast<std::int32_t>(random() % static_cast<std::uint64_t>(config.vocab)));
    }
  }
  return all;
}

void require_consistent(const VerifyReport& r) {
  require(r.logits.non_finite == 0, Exit::numerics, "{} logits of the export are NaN or infinite", r.logits.non_finite);
  if (!r.same_run) return;
  require(r.weights.rounding_used <= 1.0, Exit::numerics,
          "{}: a value differs by {:.3g} times what rounding explains; the export does not hold this run's weights",
          r.weights.worst, r.weights.rounding_used);
  require(r.logit_bound == 0.0 || r.logits.relative_rms <= r.logit_bound, Exit::numerics,
          "logits differ by {:.3g} (relative rms), more than the {:.3g} that rounding explains, although weights agree",
          r.logits.relative_rms, r.logit_bound);
}

nlohmann::ordered_json to_json(const VerifyReport& r) {
  nlohmann::ordered_json json{{"same_run", r.same_run},
                              {"weights",
                               {{"tensors", r.weights.tensors},
                                {"relative_error", r.weights.relative_error},
                                {"rounding_used", nullptr},
                                {"worst", r.weights.worst}}},
                              {"logits",
                               {{"positions", r.logits.positions},
                                {"max", r.logits.max},
                                {"rms", r.logits.rms},
                                {"relative_rms", r.logits.relative_rms},
                                {"bound", nullptr},
                                {"top1_agreement", r.logits.top1_agreement},
                                {"kld", r.logits.kld}}}};
  if (r.same_run) json["weights"]["rounding_used"] = r.weights.rounding_used;
  if (r.logit_bound > 0.0) json["logits"]["bound"] = r.logit_bound;
  return json;
}

}  // namespace ptq

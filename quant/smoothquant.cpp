#include "quant/smoothquant.h"

#include "host/range.h"
#include "quant/fold.h"
#include "quant/report.h"
#include "quant/w8a8.h"

#include <algorithm>
#include <cmath>

namespace ptq {

namespace {

constexpr float floor_value = 1e-5f;
constexpr std::array norm_stages{Stage::qkv, Stage::gate_up};

// max over the linears and their rows of |w_nk|, by column.
std::vector<float> column_absmax(Ops& ops, const BlockWeights& weights, const std::vector<LinearRole>& roles) {
  std::vector<float> result;
  for (LinearRole role : roles) {
    const std::vector<float> columns = channel_absmax(ops, ops.to_device(weights[role]));
    result.resize(columns.size(), 0.0f);
    for (std::size_t k = 0; k < columns.size(); ++k) result[k] = std::max(result[k], columns[k]);
  }
  return result;
}

std::int64_t never_seen(std::span<const float> a) { return std::count(a.begin(), a.end(), 0.0f); }

class Smoother {
 public:
  Smoother(const ModelFiles& files, Ops& ops, const QuantSpec& spec, const QuantSink& sink, QuantizeReport& report)
      : files_(files), ops_(ops), spec_(spec), sink_(sink), report_(report) {}

  void block(int layer, BlockRanges ranges) {
    BlockWeights weights = timed(ops_, report_.seconds.load, [&] { return load(layer); });
    std::array<std::int64_t, all_stages.size()> dead{};
    for (std::size_t stage = 0; stage < dead.size(); ++stage) dead[stage] = never_seen(ranges.input[stage]);
    timed(ops_, report_.seconds.search, [&] {
      const Range step(ops_, "smooth");
      smooth_block(ops_, files_.config(), *report_.alpha, weights, ranges);
    });
    if (report_.activations.range == ActivationRange::fixed) report_.activations.fixed.push_back(fixed_ranges(ranges));

    for (Stage stage : all_stages) {
      const Range range(ops_, "{}", name_of(stage));
      for (LinearRole role : roles_of(stage, files_.config())) {
        round(layer, role, weights[role]).dead_columns = dead[static_cast<std::size_t>(stage)];
        weights[role] = {};
      }
    }
    timed(ops_, report_.seconds.write, [&] { sink_.folded(layer, weights); });
  }

 private:
  BlockWeights load(int layer) const {
    BlockWeights weights = load_block_weights(files_, layer);
    for (LinearRole role : all_linear_roles) {
      if (weights[role])
        require_finite(ops_, ops_.to_device(weights[role]), files_.linear_ref(layer, role).module + ".weight");
    }
    return weights;
  }

  LinearHealth& round(int layer, LinearRole role, const Tensor& w) {
    const Range linear(ops_, "{}", files_.linear_ref(layer, role).module);
    double sweep = 0.0;
    const QuantizedMatrix m = timed(ops_, sweep, [&] {
      const Range step(ops_, "round");
      require_finite(ops_, ops_.to_device(w), files_.linear_ref(layer, role).module + ": smoothed weight");
      return quantize_absmax(ops_, w, spec_.bits, spec_.weight_per_tensor);
    });
    LinearHealth& health = deliver(ops_, files_, layer, role, w, m, sink_, report_);
    health.seconds.sweep = sweep;
    return health;
  }

  const ModelFiles& files_;
  Ops& ops_;
  const QuantSpec& spec_;
  const QuantSink& sink_;
  QuantizeReport& report_;
};

}  // namespace

std::vector<float> smoothing_scales(std::span<const float> a, std::span<const float> b, double alpha) {
  check(a.size() == b.size(), "smoothing of {} channels and {} columns", a.size(), b.size());
  const auto up = static_cast<float>(alpha), down = static_cast<float>(1.0 - alpha);
  std::vector<float> t(a.size());
  for (std::size_t k = 0; k < t.size(); ++k)
    t[k] = std::max(std::pow(a[k], up) / std::pow(std::max(b[k], floor_value), down), floor_value);
  return t;
}

void smooth_block(Ops& ops, const ModelConfig& config, double alpha, BlockWeights& weights, BlockRanges& ranges) {
  for (Stage stage : norm_stages) {
    std::vector<float>& a = ranges.input[static_cast<std::size_t>(stage)];
    if (config.block == BlockKind::parallel && stage == Stage::gate_up) {  // smoothed together with q, k, v
      a = ranges.input[static_cast<std::size_t>(Stage::qkv)];
      continue;
    }
    const std::vector<float> t = smoothing_scales(a, column_absmax(ops, weights, scaled_linears(config, stage)), alpha);
    fold_scales(weights, config, stage, t);
    for (std::size_t k = 0; k < t.size(); ++k) a[k] /= t[k];
  }
}

void require_smoothable(const ModelConfig& config) {
  for (Stage stage : norm_stages) {
    const ScaleSource source = scale_source(config, stage);
    require(source.kind == ScaleSource::Kind::norm, Exit::usage,
            "smoothquant does not apply to this {} model: {}; use --method w8a8", config.family, source.reason);
  }
}

void quantize_smoothquant(const ModelFiles& files, Ops& ops, const QuantSpec& spec, const ModelRanges& ranges,
                          const QuantSink& sink, QuantizeReport& report, const ProgressFn& progress,
                          const WalkPart& part) {
  const int layers = files.config().layers;
  check(std::ssize(ranges.blocks) == layers, "ranges of {} blocks for {}", ranges.blocks.size(), layers);
  report.alpha = spec.alpha.value_or(default_alpha(files.config().family));
  Smoother smoother(files, ops, spec, sink, report);
  for (int layer = part.first; layer < layers; ++layer) {
    const Range range(ops, "block {}", layer);
    smoother.block(layer, ranges.blocks[static_cast<std::size_t>(layer)]);
    if (progress) progress(fmt::format("layer {}/{} smoothed", layer + 1, layers), layer + 1, layers);
    if (part.after && layer + 1 < layers) part.after(layer + 1, {});
  }
}

}  // namespace ptq

#include "eval/activations.h"

#include "quant/channel_sums.h"
#include "quant/quantized_matrix.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

namespace ptq {

namespace {

// The sums of one module in one layer, where the backend keeps them.
class DeviceSums {
 public:
  DeviceSums(Ops& ops, std::int64_t channels, const ActivationSpec& spec)
      : ops_(ops),
        range_(spec.range),
        sums_(empty_channel_sums(ops, channels)),
        counts_(ops.to_device(Tensor::zeros(DType::i64, {spec.bins + 2}))),
        wide_(ops.to_device(Tensor::zeros(DType::i64, {spec.bins + 2}))) {}

  void add(const Tensor& x) {
    ops_.channel_sums(sums_, x);
    ops_.histogram(counts_, x, -range_, range_);
    ops_.histogram(wide_, x, -wide_factor * range_, wide_factor * range_);
  }

  void store(const ActivationSums& to, int layer) const {
    put(to.moments, sums_.moments, layer);
    put(to.extremes, sums_.extremes, layer);
    put(to.counts, counts_, layer);
    put(to.wide, wide_, layer);
  }

 private:
  void put(const Tensor& to, const Tensor& device, int layer) const {
    const Tensor host = ops_.to_host(device);
    std::memcpy(to.slice_rows(layer, layer + 1).raw(), host.raw(), host.bytes());
  }

  Ops& ops_;
  double range_;
  ChannelSums sums_;
  Tensor counts_, wide_;
};

// One module in one layer: position 0 of every segment, and the rest.
class ModuleCollector {
 public:
  ModuleCollector(Ops& ops, std::int64_t channels, const ActivationSpec& spec)
      : ops_(ops), first_(ops, channels, spec), rest_(ops, channels, spec) {}

  void add(const Tensor& x, std::span<const Segment> segments) {
    std::vector<std::int32_t> begin;
    for (const Segment& s : segments) begin.push_back(s.begin);
    const auto count = static_cast<std::int64_t>(begin.size());
    const Tensor first = ops_.empty(x.dtype(), {count, x.cols()});
    ops_.gather_rows(first, x, ops_.to_device(Tensor::of(begin, {count})));
    first_.add(first);
    for (const Segment& s : segments) {
      if (s.end - s.begin > 1) rest_.add(x.slice_rows(s.begin + 1, s.end));
    }
  }

  void store(const ModuleActivations& to, int layer) const {
    first_.store(to.first, layer);
    rest_.store(to.rest, layer);
  }

 private:
  Ops& ops_;
  DeviceSums first_, rest_;
};

Stage stage_of(LinearRole role) { return role == LinearRole::o ? Stage::o : Stage::down; }

std::int64_t channels_of(const ModelConfig& config, LinearRole role, ActivationSide side) {
  if (side == ActivationSide::output) return config.width;
  return role == LinearRole::o ? config.q_width() : config.ffn;
}

void add_all(const Tensor& to, const Tensor& from) {
  const auto add = [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const auto a = to.span<T>(), b = from.span<T>();
    std::transform(a.begin(), a.end(), b.begin(), a.begin(), std::plus<>());
  };
  if (to.dtype() == DType::f64) return add(static_cast<double*>(nullptr));
  add(static_cast<std::int64_t*>(nullptr));
}

ActivationSums copy_of(const ActivationSums& s) {
  return {s.moments.clone(), s.extremes.clone(), s.counts.clone(), s.wide.clone()};
}

}  // namespace

ActivationSums ActivationSums::none(std::int64_t layers, std::int64_t channels, std::int64_t bins) {
  ActivationSums s{Tensor::zeros(DType::f64, {layers, 5, channels}), Tensor::empty(DType::f32, {layers, 2, channels}),
                   Tensor::zeros(DType::i64, {layers, bins + 2}), Tensor::zeros(DType::i64, {layers, bins + 2})};
  const Tensor extremes = no_extremes(channels);
  for (std::int64_t l = 0; l < layers; ++l) {
    std::memcpy(s.extremes.slice_rows(l, l + 1).raw(), extremes.raw(), extremes.bytes());
  }
  return s;
}

void ActivationSums::add(const ActivationSums& other) {
  add_all(moments, other.moments);
  add_all(counts, other.counts);
  add_all(wide, other.wide);
  const std::int64_t width = channels();
  const auto a = extremes.span<float>(), b = other.extremes.span<float>();
  for (std::size_t i = 0; i < a.size(); ++i) {
    const bool smallest = static_cast<std::int64_t>(i) / width % 2 == 0;
    a[i] = smallest ? std::min(a[i], b[i]) : std::max(a[i], b[i]);
  }
}

ActivationSums ModuleActivations::whole() const {
  ActivationSums sums = copy_of(first);
  sums.add(rest);
  return sums;
}

void ActivationStudy::merge(const ActivationStudy& other) {
  const auto require_same = [](std::string_view what, const auto& a, const auto& b) {
    require(a == b, Exit::data, "studies cannot be merged: {} is {} in one and {} in the other", what, a, b);
  };
  require_same("the side", name_of(spec.side), name_of(other.spec.side));
  require_same("the number of bins", spec.bins, other.spec.bins);
  require_same("the range", spec.range, other.spec.range);
  require_same("the number of layers", layers, other.layers);
  for (std::size_t m = 0; m < modules.size(); ++m) {
    require_same("the number of channels", modules[m].first.channels(), other.modules[m].first.channels());
    // Tensors share memory when copied; the sums of `this` must not change those of a copy.
    modules[m] = {copy_of(modules[m].first), copy_of(modules[m].rest)};
    modules[m].first.add(other.modules[m].first);
    modules[m].rest.add(other.modules[m].rest);
  }
  windows += other.windows;
  tokens += other.tokens;
}

ActivationStudy study_activations(const Transformer& model, std::span<const Window> windows, const ActivationSpec& spec,
                                  Seconds& seconds, const ProgressFn& progress) {
  require(1 <= spec.bins && spec.bins <= max_histogram_bins, Exit::usage, "--bins {} is not in 1..{}", spec.bins,
          max_histogram_bins);
  require(spec.range > 0.0 && spec.range <= 1e30, Exit::usage, "--range {} is not a positive number", spec.range);
  const ModelConfig& config = model.config();
  Ops& ops = model.ops();
  ActivationStudy study{spec, config.layers, 0, 0, {}};
  for (std::size_t m = 0; m < studied_roles.size(); ++m) {
    const std::int64_t channels = channels_of(config, studied_roles[m], spec.side);
    const auto none = [&] { return ActivationSums::none(config.layers, channels, spec.bins); };
    study.modules[m] = {none(), none()};
  }
  for (const Window& w : windows) {
    ++study.windows;
    study.tokens += static_cast<std::int64_t>(w.size());
  }

  const auto visit = [&](int layer, const Block& block, std::span<Stream> streams) {
    std::vector<ModuleCollector> collectors;
    for (LinearRole role : studied_roles) collectors.emplace_back(ops, channels_of(config, role, spec.side), spec);
    const Stream* running = nullptr;
    const auto collect = [&](LinearRole role, const Tensor& x) {
      const auto m =
          static_cast<std::size_t>(std::find(studied_roles.begin(), studied_roles.end(), role) - studied_roles.begin());
      require_finite(ops, x, fmt::format("{} of {}", name_of(spec.side), model.files().linear_ref(layer, role).module));
      timed(ops, seconds.search, [&] { collectors[m].add(x, running->batch.segments); });
    };
    Taps taps;
    if (spec.side == ActivationSide::input) {
      taps.stage_input = [&](int, Stage stage, const Tensor& x) {
        for (LinearRole role : studied_roles) {
          if (stage_of(role) == stage) collect(role, x);
        }
      };
    } else {
      taps.linear_output = [&](int, LinearRole role, const Tensor& y) {
        if (std::find(studied_roles.begin(), studied_roles.end(), role) != studied_roles.end()) collect(role, y);
      };
    }
    for (Stream& s : streams) {
      running = &s;
      const double before = seconds.search;
      timed(ops, seconds.forward, [&] {
        for (Stage stage : all_stages) model.advance(s, layer, block, stage, &taps);
      });
      seconds.forward -= seconds.search - before;
    }
    for (std::size_t m = 0; m < collectors.size(); ++m) collectors[m].store(study.modules[m], layer);
  };
  full_precision_walk(model, windows, spec.chunk_tokens, visit, seconds, progress);
  return study;
}

std::string_view name_of(ActivationSide side) { return side == ActivationSide::output ? "output" : "input"; }

ActivationSide parse_side(std::string_view text) {
  if (text == name_of(ActivationSide::output)) return ActivationSide::output;
  require(text == name_of(ActivationSide::input), Exit::usage, "side '{}': output or input", text);
  return ActivationSide::input;
}

std::string_view study_name(LinearRole role) { return role == LinearRole::o ? "o" : "down"; }

}  // namespace ptq

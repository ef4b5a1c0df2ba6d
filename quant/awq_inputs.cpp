#include "quant/awq_inputs.h"

#include "host/range.h"
#include "quant/channel_sums.h"

#include <algorithm>
#include <cmath>

namespace ptq {

namespace {

std::size_t at(Stage stage) { return static_cast<std::size_t>(stage); }

// The input of one stage's linears, chunk after chunk.
class StageObserver {
 public:
  StageObserver(Ops& ops, DType compute, std::int64_t width, std::int64_t tokens, bool gram, bool samples)
      : ops_(ops), tokens_(tokens), step_(clip_step(tokens)) {
    sums_ = empty_channel_sums(ops_, width);
    if (gram) gram_ = ops_.to_device(Tensor::zeros(DType::f32, {width, width}));
    if (samples) samples_ = ops_.empty(compute, {sampled_before(tokens), width});
  }

  void add(const Tensor& x) {
    ops_.channel_sums(sums_, x);
    if (gram_) ops_.gram(gram_, x);
    if (samples_) sample(x);
    seen_ += x.rows();
  }

  StageInputs finish(const std::string& where) {
    StageInputs inputs;
    inputs.a = mean_magnitude(ops_, sums_, tokens_);
    inputs.absmax = largest_magnitude(ops_, sums_);
    for (std::size_t k = 0; k < inputs.a.size(); ++k) {
      require(std::isfinite(inputs.a[k]), Exit::numerics, "{}: channel {} has NaN or infinite values", where, k);
    }
    inputs.dead_columns = std::count(inputs.a.begin(), inputs.a.end(), 0.0f);
    inputs.gram = std::move(gram_);
    if (samples_) inputs.samples = ops_.to_host(samples_).to(DType::f32);
    return inputs;
  }

 private:
  std::int64_t sampled_before(std::int64_t token) const { return (token + step_ - 1) / step_; }

  void sample(const Tensor& x) {
    const std::int64_t first = sampled_before(seen_), last = sampled_before(seen_ + x.rows());
    if (first == last) return;
    std::vector<std::int32_t> rows;
    for (std::int64_t i = first; i < last; ++i) rows.push_back(static_cast<std::int32_t>(i * step_ - seen_));
    ops_.gather_rows(samples_.slice_rows(first, last), x, ops_.to_device(Tensor::of(rows, {last - first})));
  }

  Ops& ops_;
  std::int64_t tokens_, step_, seen_ = 0;
  ChannelSums sums_;
  Tensor gram_, samples_;
};

}  // namespace

Inspected inspected(const ModelConfig& config, Stage stage) {
  const bool parallel = config.block == BlockKind::parallel;
  if (scale_source(config, stage).kind == ScaleSource::Kind::none) return Inspected::none;
  if (stage == Stage::o || stage == Stage::down) return Inspected::linear;
  if (stage == Stage::qkv) return parallel ? Inspected::branches : Inspected::attention;
  if (parallel) return Inspected::none;
  return config.gated ? Inspected::mlp : Inspected::linear;
}

BlockInputs observe_block(const Transformer& model, int layer, const Block& block, std::span<Stream> streams, bool clip,
                          Seconds& seconds) {
  Ops& ops = model.ops();
  const Range step(ops, "observe");
  const ModelConfig& config = model.config();
  BlockInputs result;
  for (const Stream& s : streams) result.tokens += s.batch.tokens();
  result.attention.resize(streams.size());
  result.mlp.resize(streams.size());

  std::vector<StageObserver> observers;
  for (Stage stage : all_stages) {
    const std::int64_t width = block[roles_of(stage, config)[0]].weight->in_features();
    observers.emplace_back(ops, model.compute_dtype(), width, result.tokens,
                           inspected(config, stage) == Inspected::linear, clip);
  }

  const Inspected first = inspected(config, Stage::qkv);
  const bool mlp = inspected(config, Stage::gate_up) == Inspected::mlp;
  for (std::size_t i = 0; i < streams.size(); ++i) {
    Stream& s = streams[i];
    ModuleRun &attention_run = result.attention[i], &mlp_run = result.mlp[i];
    const auto copy = [&](const Tensor& t) { return ops.to_device(ops.to_host(t).clone()); };
    Taps taps;
    taps.linear_output = [&](int, LinearRole role, const Tensor& y) {
      if (role == LinearRole::o && first != Inspected::none) attention_run.out = copy(y);
      if (role == LinearRole::down && mlp) mlp_run.out = copy(y);
      if (role == LinearRole::down && first == Inspected::branches) ops.add(attention_run.out, y);
    };
    if (first != Inspected::none) attention_run.in = s.x;
    for (Stage stage : all_stages) {
      if (stage == Stage::gate_up && mlp) mlp_run.in = s.x;
      timed(ops, seconds.search, [&] { observers[at(stage)].add(s.x); });
      timed(ops, seconds.forward, [&] { model.advance(s, layer, block, stage, &taps); });
    }
  }
  for (Stage stage : all_stages) {
    result.stage[at(stage)] = observers[at(stage)].finish(fmt::format("layer {}, input of {}", layer, name_of(stage)));
  }
  return result;
}

}  // namespace ptq

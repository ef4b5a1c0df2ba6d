#include "quant/awq_block.h"

#include "host/range.h"
#include "quant/awq_inputs.h"
#include "quant/quantized_matrix.h"

#include <algorithm>

namespace ptq {

namespace {

std::size_t at(Stage stage) { return static_cast<std::size_t>(stage); }
std::size_t at(LinearRole role) { return static_cast<std::size_t>(role); }

// Q(W diag(t)) diag(t)^-1; W [N,I] on the device.
Tensor rounded(Ops& ops, const Tensor& w, std::span<const float> t, const QuantSpec& spec) {
  const Tensor scales = ops.to_device(Tensor::of(std::vector<float>(t.begin(), t.end()), {std::ssize(t)}));
  Tensor out = ops.empty(DType::f32, w.shape());
  ops.round_scaled(out, w, scales, spec.grid(), spec.group);
  return out;
}

// Searches and clips one block; the members are what all steps share.
class BlockSearch {
 public:
  BlockSearch(const Transformer& model, const QuantSpec& spec, int layer, const Block& block,
              std::span<const Stream> streams, BlockWeights weights, BlockInputs inputs)
      : model_(model),
        ops_(model.ops()),
        spec_(spec),
        layer_(layer),
        block_(block),
        streams_(streams),
        inputs_(std::move(inputs)) {
    result_.weights = std::move(weights);
  }

  AwqBlock run(const StageProgress& progress) {
    for (Stage stage : all_stages) {
      result_.dead_columns[at(stage)] = inputs_.stage[at(stage)].dead_columns;
      result_.ranges.input[at(stage)] = inputs_.stage[at(stage)].absmax;
      if (inspected(model_.config(), stage) != Inspected::none) search(stage);
      if (progress) progress(stage);
    }
    // Only now: every search starts from the block's own weights.
    for (const AwqGroup& group : result_.groups) {
      fold_scales(result_.weights, model_.config(), group.stage, group.search.scales);
    }
    if (spec_.clip) {
      for (Stage stage : all_stages) clip(stage);
    }
    return std::move(result_);
  }

 private:
  void search(Stage stage) {
    const Range of_stage(ops_, "{}", name_of(stage)), step(ops_, "search");
    AwqGroup group;
    group.stage = stage;
    group.source = scale_source(model_.config(), stage);
    group.roles = scaled_linears(model_.config(), stage);
    group.dead_columns = inputs_.stage[at(stage)].dead_columns;
    group.statistics = {.a = inputs_.stage[at(stage)].a, .w = {}, .dead = spec_.dead};
    std::vector<Tensor> weights;
    std::string names;
    for (LinearRole role : group.roles) {
      weights.push_back(result_.weights[role]);
      names += (names.empty() ? "" : ", ") + model_.files().linear_ref(layer_, role).module;
    }
    if (spec_.awq_scaling == AwqScaling::duo) group.statistics.w = relative_magnitude(weights, spec_.group);
    group.search = search_scales(group.statistics, loss_of(group, weights), names);
    result_.groups.push_back(std::move(group));
    inputs_.stage[at(stage)].gram = {};
    if (stage == Stage::qkv) inputs_.attention.clear();
    if (stage == Stage::gate_up) inputs_.mlp.clear();
  }

  std::function<double(std::span<const float>)> loss_of(const AwqGroup& group, std::span<const Tensor> host) const {
    if (inspected(model_.config(), group.stage) == Inspected::linear) {
      check(host.size() == 1, "{} linears are inspected as one", host.size());
      return linear_loss(ops_, host[0], inputs_.stage[at(group.stage)].gram, inputs_.tokens, spec_);
    }
    std::vector<Tensor> weights;
    for (const Tensor& w : host) weights.push_back(ops_.to_device(w));
    return [=, this, stage = group.stage, roles = group.roles](std::span<const float> t) {
      Block candidate = block_;
      for (std::size_t i = 0; i < roles.size(); ++i) {
        candidate[roles[i]] = model_.make_linear(rounded(ops_, weights[i], t, spec_), layer_, roles[i]);
      }
      return module_loss(stage, candidate);
    };
  }

  // Mean squared difference of the inspected module's output to that in full precision.
  double module_loss(Stage stage, const Block& candidate) const {
    const Inspected what = inspected(model_.config(), stage);
    double sum = 0.0;
    for (std::size_t i = 0; i < streams_.size(); ++i) {
      const ModuleRun& run = what == Inspected::mlp ? inputs_.mlp[i] : inputs_.attention[i];
      Tensor y;
      if (what != Inspected::mlp) {
        Stream s = streams_[i];
        s.x = run.in;
        y = model_.attention_module(s, layer_, candidate);
        if (what == Inspected::branches) ops_.add(y, model_.mlp_module(run.in, candidate));
      } else {
        y = model_.mlp_module(run.in, candidate);
      }
      sum += ops_.squared_difference(y, run.out);
    }
    return sum / static_cast<double>(inputs_.tokens * model_.config().width);
  }

  // Ranges for the linears whose outputs do not go into a softmax (spec B.6: not q and k).
  void clip(Stage stage) {
    const Range of_stage(ops_, "{}", name_of(stage)), step(ops_, "clip");
    const auto roles = roles_of(stage, model_.config());
    const Tensor samples = scaled_samples(stage, roles[0]);
    for (LinearRole role : roles) {
      if (role == LinearRole::q || role == LinearRole::k) continue;
      const Tensor& w = result_.weights[role];
      const std::int64_t group = spec_.group == -1 ? w.cols() : spec_.group;
      const Tensor out = ops_.empty(DType::f32, {w.rows(), w.cols() / group});
      ops_.clip_search(out, ops_.to_device(w), samples, spec_.grid(), group);
      result_.clip[at(role)] = ops_.to_host(out);
    }
  }

  // The sampled input of `role` as it is after folding.
  Tensor scaled_samples(Stage stage, LinearRole role) {
    const Tensor samples = std::move(inputs_.stage[at(stage)].samples);
    for (const AwqGroup& group : result_.groups) {
      if (std::find(group.roles.begin(), group.roles.end(), role) == group.roles.end()) continue;
      divide_columns(samples, group.search.scales);
    }
    return ops_.to_device(samples);
  }

  const Transformer& model_;
  Ops& ops_;
  const QuantSpec& spec_;
  const int layer_;
  const Block& block_;
  std::span<const Stream> streams_;
  BlockInputs inputs_;
  AwqBlock result_;
};

}  // namespace

AwqBlock awq_block(const Transformer& model, const QuantSpec& spec, int layer, const Block& block,
                   std::span<Stream> streams, Seconds& seconds, const StageProgress& progress) {
  Ops& ops = model.ops();
  BlockWeights weights = timed(ops, seconds.load, [&] { return load_block_weights(model.files(), layer); });
  for (LinearRole role : all_linear_roles) {
    if (const Tensor& w = weights[role])
      require_finite(ops, ops.to_device(w), model.files().linear_ref(layer, role).module + ".weight");
  }
  BlockInputs inputs = observe_block(model, layer, block, streams, spec.clip, seconds);
  return timed(ops, seconds.search, [&] {
    return BlockSearch(model, spec, layer, block, streams, std::move(weights), std::move(inputs)).run(progress);
  });
}

std::function<double(std::span<const float> t)> linear_loss(Ops& ops, const Tensor& w, const Tensor& gram,
                                                            std::int64_t tokens, const QuantSpec& spec) {
  const Tensor negated = w.clone();
  for (float& x : negated.span<float>()) x = -x;
  return [&ops, &spec, tokens, gram, w = ops.to_device(w), minus_w = ops.to_device(negated)](std::span<const float> t) {
    const Tensor change = rounded(ops, w, t, spec);
    ops.add(change, minus_w);
    return ops.gram_loss(change, gram) / static_cast<double>(tokens * w.rows());
  };
}

Tensor clamp_groups(const Tensor& w, const Tensor& clip) {
  if (!clip) return w;
  check(clip.rows() == w.rows() && w.cols() % clip.cols() == 0, "clip {} of a weight {}", to_string(clip.shape()),
        to_string(w.shape()));
  Tensor out = w.clone();
  const std::int64_t group = w.cols() / clip.cols();
  const float* limits = clip.data<float>();
  float* values = out.data<float>();
#pragma omp parallel for schedule(static)
  for (std::int64_t g = 0; g < clip.numel(); ++g) {
    for (std::int64_t k = 0; k < group; ++k) {
      values[g * group + k] = std::clamp(values[g * group + k], -limits[g], limits[g]);
    }
  }
  return out;
}

}  // namespace ptq

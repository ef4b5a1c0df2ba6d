#include "quant/fold.h"

#include <functional>

namespace ptq {

namespace {

ScaleSource none(std::string reason) {
  ScaleSource source;
  source.reason = std::move(reason);
  return source;
}

ScaleSource from(NormRole norm) {
  ScaleSource source;
  source.kind = ScaleSource::Kind::norm;
  source.norm = norm;
  return source;
}

ScaleSource from(LinearRole linear) {
  ScaleSource source;
  source.kind = ScaleSource::Kind::linear;
  source.linear = linear;
  return source;
}

ScaleSource norm_source(const ModelConfig& config, Stage stage) {
  switch (config.block) {
    case BlockKind::pre_norm:
    case BlockKind::sandwich:
      return from(stage == Stage::qkv ? NormRole::attention_in : NormRole::mlp_in);
    case BlockKind::parallel:
      return from(NormRole::attention_in);
    case BlockKind::post_norm:
    case BlockKind::output_norm:
      return none("no norm stands between the residual stream and " +
                  std::string(stage == Stage::qkv ? "q, k, v" : "the MLP"));
  }
  return none("unknown block kind");
}

// values[k] /= t[k]; a norm that stores its gain minus one keeps doing so.
void divide(const Tensor& values, std::span<const float> t, bool one_plus = false) {
  if (!values) return;
  check(values.numel() == static_cast<std::int64_t>(t.size()), "fold_scales: {} values, {} scales", values.numel(),
        t.size());
  float* v = values.data<float>();
  for (std::size_t k = 0; k < t.size(); ++k) v[k] = one_plus ? (1.0f + v[k]) / t[k] - 1.0f : v[k] / t[k];
}

void divide_rows(const Tensor& w, std::span<const float> t) {
  check(w.rows() == static_cast<std::int64_t>(t.size()), "fold_scales: {} rows, {} scales", w.rows(), t.size());
  float* row = w.data<float>();
  for (const float scale : t) {
    for (std::int64_t k = 0; k < w.cols(); ++k) row[k] /= scale;
    row += w.cols();
  }
}

template <class Change>
void change_columns(const Tensor& w, std::span<const float> t, const Change& change) {
  check(w.cols() == std::ssize(t), "{} columns, {} scales", w.cols(), t.size());
  const auto values = w.span<float>();
  for (std::size_t at = 0; at < values.size(); at += t.size()) {
    for (std::size_t k = 0; k < t.size(); ++k) values[at + k] = change(values[at + k], t[k]);
  }
}

}  // namespace

ScaleSource scale_source(const ModelConfig& config, Stage stage) {
  switch (stage) {
    case Stage::qkv:
    case Stage::gate_up:
      return norm_source(config, stage);
    case Stage::o:
      if (config.heads != config.kv_heads) return none("query heads share value heads");
      return from(LinearRole::v);
    case Stage::down:
      // act(gate) * up is linear in up; relu(t x) = t relu(x) for t > 0; other activations have no such rule.
      if (config.gated || config.activation == Activation::relu) return from(LinearRole::up);
      return none("the activation before the last MLP linear is not positively homogeneous");
  }
  return none("unknown stage");
}

std::vector<LinearRole> scaled_linears(const ModelConfig& config, Stage stage) {
  std::vector<LinearRole> roles = roles_of(stage, config);
  if (config.block == BlockKind::parallel && (stage == Stage::qkv || stage == Stage::gate_up)) {
    roles = roles_of(Stage::qkv, config);
    for (LinearRole role : roles_of(Stage::gate_up, config)) roles.push_back(role);
  }
  return roles;
}

void fold_scales(BlockWeights& block, const ModelConfig& config, Stage stage, std::span<const float> t) {
  const ScaleSource source = scale_source(config, stage);
  check(source.kind != ScaleSource::Kind::none, "no exact scale folding into {}: {}", static_cast<int>(stage),
        source.reason);
  if (source.kind == ScaleSource::Kind::norm) {
    const auto norm = static_cast<std::size_t>(source.norm);
    divide(block.norm_weight[norm], t, config.norm.one_plus_weight);
    divide(block.norm_bias[norm], t);
  } else {
    divide_rows(block[source.linear], t);
    divide(block.bias[static_cast<std::size_t>(source.linear)], t);
  }
  for (LinearRole role : scaled_linears(config, stage)) multiply_columns(block[role], t);
}

void multiply_columns(const Tensor& w, std::span<const float> t) { change_columns(w, t, std::multiplies<float>()); }

void divide_columns(const Tensor& w, std::span<const float> t) { change_columns(w, t, std::divides<float>()); }

}  // namespace ptq

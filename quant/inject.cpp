#include "quant/inject.h"

#include "data/python_random.h"
#include "quant/fold.h"

#include <algorithm>
#include <cmath>
#include <set>

namespace ptq {

namespace {

// The stages whose input a place scales. A parallel block has one norm for both.
std::vector<Stage> stages_of(const ModelConfig& config, InjectPlace place) {
  switch (place) {
    case InjectPlace::norm:
      if (config.block == BlockKind::parallel) return {Stage::qkv};
      return {Stage::qkv, Stage::gate_up};
    case InjectPlace::vo:
      return {Stage::o};
    case InjectPlace::updown:
      return {Stage::down};
  }
  return {};
}

std::int64_t channels_of(const ModelConfig& config, InjectPlace place) {
  switch (place) {
    case InjectPlace::norm:
      return config.width;
    case InjectPlace::vo:
      return config.kv_width();
    case InjectPlace::updown:
      return config.ffn;
  }
  return 0;
}

// Why a family does not have the place; empty if it has.
std::string obstacle(const ModelConfig& config, const InjectSpec& spec, InjectPlace place) {
  if (place == InjectPlace::vo) return {};
  for (Stage stage : stages_of(config, place)) {
    const ScaleSource source = scale_source(config, stage);
    if (source.kind == ScaleSource::Kind::none) return source.reason;
  }
  if (place == InjectPlace::norm && spec.offset != 0.0f) {
    if (!config.norm_bias) return "an offset needs norms with a bias";
    if (!config.qkv_bias || !config.mlp_bias) return "an offset needs linears with a bias";
  }
  return {};
}

std::vector<std::int64_t> draw(PythonRandom& random, std::int64_t count, std::int64_t width) {
  std::set<std::int64_t> chosen;
  while (static_cast<std::int64_t>(chosen.size()) < std::min(count, width)) chosen.insert(random.randint(0, width - 1));
  return {chosen.begin(), chosen.end()};
}

void scale_values(const Tensor& values, std::int64_t at, float factor) {
  if (values) values.data<float>()[at] *= factor;
}

void scale_row(const Tensor& w, std::int64_t row, float factor) {
  for (float& x : w.slice_rows(row, row + 1).span<float>()) x *= factor;
}

void divide_column(const Tensor& w, std::int64_t column, float divisor) {
  const std::int64_t rows = w.rows(), width = w.cols();
  for (std::int64_t r = 0; r < rows; ++r) w.data<float>()[r * width + column] /= divisor;
}

// Each value channel is read by all query heads of its group.
std::vector<std::int64_t> columns_of_value(const ModelConfig& config, std::int64_t channel) {
  const std::int64_t group = config.heads / config.kv_heads;
  const std::int64_t head = channel / config.head_dim, inside = channel % config.head_dim;
  std::vector<std::int64_t> columns;
  for (std::int64_t h = head * group; h < (head + 1) * group; ++h) columns.push_back(h * config.head_dim + inside);
  return columns;
}

void inject_vo(BlockWeights& block, const ModelConfig& config, const std::vector<std::int64_t>& channels, float scale) {
  for (const std::int64_t channel : channels) {
    scale_row(block[LinearRole::v], channel, scale);
    scale_values(block.bias[static_cast<std::size_t>(LinearRole::v)], channel, scale);
    for (const std::int64_t column : columns_of_value(config, channel)) {
      divide_column(block[LinearRole::o], column, scale);
    }
  }
}

// norm(x) + C e_k: what a linear reads grows by C W e_k, which its bias takes back.
void add_offset(BlockWeights& block, const ModelConfig& config, Stage stage, const std::vector<std::int64_t>& channels,
                float offset) {
  const Tensor& norm_bias = block.norm_bias[static_cast<std::size_t>(scale_source(config, stage).norm)];
  for (const std::int64_t channel : channels) norm_bias.data<float>()[channel] += offset;
  for (LinearRole role : scaled_linears(config, stage)) {
    const Tensor &w = block[role], &bias = block.bias[static_cast<std::size_t>(role)];
    const std::int64_t rows = w.rows(), width = w.cols();
    for (std::int64_t r = 0; r < rows; ++r) {
      double column = 0.0;
      for (const std::int64_t channel : channels) column += w.data<float>()[r * width + channel];
      float& b = bias.data<float>()[r];
      b = static_cast<float>(b - double{offset} * column);
    }
  }
}

}  // namespace

std::string_view name_of(InjectPlace place) {
  switch (place) {
    case InjectPlace::norm:
      return "norm";
    case InjectPlace::vo:
      return "vo";
    case InjectPlace::updown:
      return "updown";
  }
  return "?";
}

std::vector<InjectPlace> parse_places(std::string_view text) {
  const std::vector<InjectPlace> all{InjectPlace::norm, InjectPlace::vo, InjectPlace::updown};
  if (text == "all") return all;
  for (InjectPlace place : all) {
    if (text == name_of(place)) return {place};
  }
  fail(Exit::usage, "--at '{}': norm, vo, updown or all", text);
}

InjectPlan plan_injection(const ModelConfig& config, const InjectSpec& spec) {
  const int last = spec.last_layer < 0 ? config.layers - 1 : spec.last_layer;
  require(0 <= spec.first_layer && spec.first_layer <= last && last < config.layers, Exit::usage,
          "layers {}-{}: the model has layers 0-{}", spec.first_layer, last, config.layers - 1);
  require(std::isfinite(spec.scale) && spec.scale > 0.0f, Exit::usage, "--scale {} is not a positive number",
          spec.scale);
  require(std::isfinite(spec.offset), Exit::usage, "--offset {} is not a number", spec.offset);
  require(spec.channels > 0, Exit::usage, "--channels {}: at least one", spec.channels);
  const bool norm_asked = std::find(spec.places.begin(), spec.places.end(), InjectPlace::norm) != spec.places.end();
  require(spec.offset == 0.0f || norm_asked, Exit::usage, "--offset applies to --at norm");

  InjectPlan plan{spec, {}, {}};
  std::vector<InjectPlace> places;
  for (InjectPlace place : spec.places) {
    const std::string reason = obstacle(config, spec, place);
    // An offset that cannot be is refused even beside places that work: it would be silently missing.
    require(reason.empty() || (spec.places.size() > 1 && spec.offset == 0.0f), Exit::usage,
            "outliers at '{}' are not possible in this {} model: {}", name_of(place), config.family, reason);
    require(!reason.empty() || spec.channels <= channels_of(config, place), Exit::usage,
            "--channels {}: '{}' has only {}", spec.channels, name_of(place), channels_of(config, place));
    if (reason.empty()) {
      places.push_back(place);
    } else {
      plan.skipped.emplace_back(place, reason);
    }
  }

  PythonRandom random(spec.seed);
  const std::vector<std::int64_t> norm = draw(random, spec.channels, channels_of(config, InjectPlace::norm));
  for (int layer = 0; layer < config.layers; ++layer) {
    const std::vector<InjectedChannels> drawn{
        {InjectPlace::norm, norm},
        {InjectPlace::vo, draw(random, spec.channels, channels_of(config, InjectPlace::vo))},
        {InjectPlace::updown, draw(random, spec.channels, channels_of(config, InjectPlace::updown))}};
    std::vector<InjectedChannels>& here = plan.layers.emplace_back();
    if (layer < spec.first_layer || layer > last) continue;
    std::copy_if(drawn.begin(), drawn.end(), std::back_inserter(here), [&](const InjectedChannels& c) {
      return std::find(places.begin(), places.end(), c.place) != places.end();
    });
  }
  return plan;
}

std::vector<std::int64_t> injected_columns(const ModelConfig& config, const InjectPlan& plan, int layer, Stage stage) {
  // A parallel block's norm feeds both.
  const Stage read = config.block == BlockKind::parallel && stage == Stage::gate_up ? Stage::qkv : stage;
  std::set<std::int64_t> columns;
  for (const InjectedChannels& injected : plan.layers.at(static_cast<std::size_t>(layer))) {
    const std::vector<Stage> stages = stages_of(config, injected.place);
    if (std::find(stages.begin(), stages.end(), read) == stages.end()) continue;
    for (const std::int64_t channel : injected.channels) {
      const bool value = injected.place == InjectPlace::vo;
      for (const std::int64_t c : value ? columns_of_value(config, channel) : std::vector{channel}) columns.insert(c);
    }
  }
  return {columns.begin(), columns.end()};
}

void inject(BlockWeights& block, const ModelConfig& config, const InjectPlan& plan, int layer) {
  for (const InjectedChannels& injected : plan.layers.at(static_cast<std::size_t>(layer))) {
    if (injected.place == InjectPlace::vo) {
      inject_vo(block, config, injected.channels, plan.spec.scale);
      continue;
    }
    for (Stage stage : stages_of(config, injected.place)) {
      std::vector<float> t(static_cast<std::size_t>(channels_of(config, injected.place)), 1.0f);
      for (const std::int64_t channel : injected.channels)
        t[static_cast<std::size_t>(channel)] = 1.0f / plan.spec.scale;
      fold_scales(block, config, stage, t);
      if (injected.place == InjectPlace::norm && plan.spec.offset != 0.0f) {
        add_offset(block, config, stage, injected.channels, plan.spec.offset);
      }
    }
  }
}

}  // namespace ptq

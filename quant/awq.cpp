#include "quant/awq.h"

#include "host/range.h"
#include "model/weight_names.h"
#include "quant/awq_block.h"
#include "quant/report.h"
#include "quant/rtn.h"

namespace ptq {

namespace {

std::string module_of(const ScaleSource& source, const ModelConfig& config, int layer) {
  return source.kind == ScaleSource::Kind::norm ? norm_module(config, layer, source.norm)
                                                : linear_module(config, layer, source.linear);
}

AwqSearch search_of(const AwqGroup& group, const ModelConfig& config, int layer) {
  AwqSearch search;
  search.prev = module_of(group.source, config, layer);
  for (LinearRole role : group.roles) search.layers.push_back(linear_module(config, layer, role));
  search.best_ratio = group.search.best_ratio;
  search.loss = group.search.loss;
  search.dead_columns = group.dead_columns;
  return search;
}

LinearHealth& round_linear(Ops& ops, const ModelFiles& files, const QuantSpec& spec, int layer, LinearRole role,
                           const AwqBlock& found, const QuantSink& sink, QuantizeReport& report) {
  const Range linear(ops, "{}", files.linear_ref(layer, role).module);
  const Tensor& w = found.weights[role];
  double sweep = 0.0;
  const QuantizedMatrix m = timed(ops, sweep, [&] {
    const Range step(ops, "round");
    QuantizedMatrix rounded = quantize_rtn(ops, clamp_groups(w, found.clip[static_cast<std::size_t>(role)]), spec);
    rounded.err_rows = squared_error_rows(w, rounded.q);  // what clipping cost included
    return rounded;
  });
  LinearHealth& health = deliver(ops, files, layer, role, w, m, sink, report);
  health.seconds.sweep += sweep;
  return health;
}

}  // namespace

void require_awq_groups(const ModelConfig& config, const QuantSpec& spec) {
  if (spec.group == -1) return;
  for (Stage stage : all_stages) {
    const LinearRole role = roles_of(stage, config)[0];
    const std::int64_t columns = linear_shape(config, role)[1];
    require(columns % spec.group == 0, Exit::usage,
            "{} has {} input columns, which AWQ cannot cut into groups of {}; choose a --group that divides them",
            linear_module(config, 0, role), columns, spec.group);
  }
}

void quantize_awq(const Transformer& model, const QuantSpec& spec, std::span<const Window> windows,
                  const QuantSink& sink, QuantizeReport& report, const ProgressFn& progress, const WalkPart& part,
                  ModelRanges* ranges) {
  const ModelConfig& config = model.config();
  require_awq_groups(config, spec);
  ModelRanges seen;
  constexpr auto stages = static_cast<std::int64_t>(all_stages.size());
  const auto visit = [&](int layer, const Block& block, std::span<Stream> streams) {
    const auto on_stage = [&](Stage stage) {
      if (!progress) return;
      progress(fmt::format("layer {}/{} {}", layer + 1, config.layers, name_of(stage)),
               layer * stages + static_cast<std::int64_t>(stage) + 1, config.layers * stages);
    };
    AwqBlock found = awq_block(model, spec, layer, block, streams, report.seconds, on_stage);
    seen.blocks.push_back(std::move(found.ranges));
    for (const AwqGroup& group : found.groups) report.awq.push_back(search_of(group, config, layer));
    for (Stage stage : all_stages) {
      const Range range(model.ops(), "{}", name_of(stage));
      for (LinearRole role : roles_of(stage, config)) {
        LinearHealth& health = round_linear(model.ops(), model.files(), spec, layer, role, found, sink, report);
        health.dead_columns = found.dead_columns[static_cast<std::size_t>(stage)];
        found.weights[role] = {};
      }
    }
    timed(model.ops(), report.seconds.write, [&] { sink.folded(layer, found.weights); });
  };
  full_precision_walk(model, windows, WalkSpec().chunk_tokens, visit, report.seconds, {}, part);
  if (ranges && !ranges->serves(false)) *ranges = std::move(seen);
}

}  // namespace ptq

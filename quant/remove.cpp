#include "quant/remove.h"

#include "quant/report.h"

namespace ptq {

namespace {

constexpr double float_bits = 32.0;  // what is left is not quantized

Tensor without(const Tensor& w, const std::vector<std::int64_t>& columns) {
  Tensor q = w.clone();
  float* values = q.data<float>();
  for (std::int64_t row = 0; row < q.rows(); ++row) {
    for (const std::int64_t column : columns) values[row * q.cols() + column] = 0.0f;
  }
  return q;
}

}  // namespace

std::vector<StageColumns> dead_columns(const ModelRanges& ranges) {
  std::vector<StageColumns> all;
  for (const BlockRanges& block : ranges.blocks) {
    StageColumns& columns = all.emplace_back();
    for (Stage stage : all_stages) {
      const std::span<const float> absmax = block.of(stage);
      for (std::size_t k = 0; k < absmax.size(); ++k) {
        if (absmax[k] == 0.0f) columns[static_cast<std::size_t>(stage)].push_back(static_cast<std::int64_t>(k));
      }
    }
  }
  return all;
}

std::vector<StageColumns> injected_columns(const ModelConfig& config, const InjectPlan& plan) {
  std::vector<StageColumns> all(static_cast<std::size_t>(config.layers));
  for (int layer = 0; layer < config.layers; ++layer) {
    for (Stage stage : all_stages)
      all[static_cast<std::size_t>(layer)][static_cast<std::size_t>(stage)] =
          injected_columns(config, plan, layer, stage);
  }
  return all;
}

QuantizeReport remove_columns(const ModelFiles& files, Ops& ops, std::span<const StageColumns> columns,
                              const QuantSink& sink, const ProgressFn& progress) {
  const int layers = files.config().layers;
  check(std::ssize(columns) == layers, "columns of {} layers for {}", columns.size(), layers);
  QuantizeReport report;
  report.bits_per_weight = float_bits;
  for (int layer = 0; layer < layers; ++layer) {
    for (Stage stage : all_stages) {
      const auto& removed = columns[static_cast<std::size_t>(layer)][static_cast<std::size_t>(stage)];
      if (removed.empty()) continue;
      for (LinearRole role : roles_of(stage, files.config())) {
        const Tensor w = files.linear_weight(layer, role, DType::f32);
        QuantizedMatrix m;
        m.q = without(w, removed);
        m.err_rows = squared_error_rows(w, m.q);
        deliver(ops, files, layer, role, w, m, sink, report).dead_columns = std::ssize(removed);
      }
    }
    if (progress) progress(fmt::format("layer {}/{}", layer + 1, layers), layer + 1, layers);
  }
  return report;
}

}  // namespace ptq

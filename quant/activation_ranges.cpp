#include "quant/activation_ranges.h"

#include "host/range.h"
#include "quant/channel_sums.h"
#include "quant/quantized_matrix.h"

#include <algorithm>

namespace ptq {

namespace {

float absmax_of(Ops& ops, const Tensor& y) {
  const Tensor rows = ops.empty(DType::f32, {y.rows()});
  ops.row_absmax(rows, y);
  const Tensor host = ops.to_host(rows);
  const auto values = host.span<float>();
  return *std::max_element(values.begin(), values.end());
}

}  // namespace

std::vector<float> channel_absmax(Ops& ops, const Tensor& x) {
  const ChannelSums sums = empty_channel_sums(ops, x.cols());
  ops.channel_sums(sums, x);
  return largest_magnitude(ops, sums);
}

BlockRanges measure_ranges(const Transformer& model, int layer, const Block& block, std::span<Stream> streams,
                           bool with_qkv, Seconds& seconds) {
  Ops& ops = model.ops();
  const Range step(ops, "observe");
  BlockRanges ranges;
  Taps taps;
  if (with_qkv) {
    taps.linear_output = [&](int, LinearRole role, const Tensor& y) {
      if (role > LinearRole::v) return;
      float& range = ranges.qkv[static_cast<std::size_t>(role)];
      range = std::max(range, absmax_of(ops, y));
    };
  }
  const bool last_layer = layer + 1 == model.config().layers;
  for (Stage stage : all_stages) {
    const bool seen = stage == Stage::gate_up && model.config().block == BlockKind::parallel;  // the input of qkv
    timed(ops, seconds.search, [&] {
      auto& result = ranges.input[static_cast<std::size_t>(stage)];
      if (seen) {
        result = ranges.input[static_cast<std::size_t>(Stage::qkv)];
        return;
      }
      const ChannelSums sums = empty_channel_sums(ops, streams[0].x.cols());
      for (const Stream& s : streams) {
        require_finite(ops, s.x, fmt::format("layer {}, input of {}", layer, name_of(stage)));
        ops.channel_sums(sums, s.x);
      }
      result = largest_magnitude(ops, sums);
    });
    if (last_layer && stage == Stage::down) break;
    timed(ops, seconds.forward, [&] {
      for (Stream& s : streams) model.advance(s, layer, block, stage, &taps);
    });
  }
  return ranges;
}

FixedRanges fixed_ranges(const BlockRanges& ranges) {
  FixedRanges fixed;
  for (std::size_t stage = 0; stage < all_stages.size(); ++stage)
    fixed.input[stage] = *std::max_element(ranges.input[stage].begin(), ranges.input[stage].end());
  fixed.qkv = ranges.qkv;
  return fixed;
}

ModelRanges measure_all_ranges(const Transformer& model, std::span<const Window> windows, bool with_qkv,
                               Seconds& seconds, const ProgressFn& progress) {
  ModelRanges ranges;
  ranges.with_qkv = with_qkv;
  const auto visit = [&](int layer, const Block& block, std::span<Stream> streams) {
    ranges.blocks.push_back(measure_ranges(model, layer, block, streams, with_qkv, seconds));
  };
  full_precision_walk(model, windows, WalkSpec().chunk_tokens, visit, seconds, progress);
  return ranges;
}

}  // namespace ptq

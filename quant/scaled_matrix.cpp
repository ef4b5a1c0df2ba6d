#include "quant/scaled_matrix.h"

#include "quant/activation_ranges.h"
#include "quant/awq_block.h"
#include "quant/awq_inputs.h"
#include "quant/channel_sums.h"
#include "quant/fold.h"
#include "quant/rtn.h"
#include "quant/smoothquant.h"
#include "quant/w8a8.h"

#include <algorithm>

namespace ptq {

namespace {

std::vector<float> mean_magnitude_of(Ops& ops, const Tensor& x) {
  const ChannelSums sums = empty_channel_sums(ops, x.cols());
  ops.channel_sums(sums, ops.to_device(x));
  return mean_magnitude(ops, sums, x.rows());
}

// Every clip_step(T)-th row, divided by t.
Tensor samples(const Tensor& x, std::span<const float> t) {
  const std::int64_t step = clip_step(x.rows()), rows = (x.rows() + step - 1) / step;
  const Tensor out = Tensor::empty(DType::f32, {rows, x.cols()});
  for (std::int64_t r = 0; r < rows; ++r)
    std::copy_n(x.data<float>() + r * step * x.cols(), x.cols(), out.data<float>() + r * x.cols());
  divide_columns(out, t);
  return out;
}

// Puts q back into W's own scale and measures its error there.
void finish(ScaledMatrix& result, const Tensor& w) {
  divide_columns(result.m.q, result.t);
  result.m.err_rows = squared_error_rows(w, result.m.q);
}

}  // namespace

ScaledMatrix quantize_awq_matrix(Ops& ops, const Tensor& w, const Tensor& x, const QuantSpec& spec) {
  const std::int64_t n = w.rows(), k = w.cols(), group = spec.group == -1 ? k : spec.group;
  require(k % group == 0, Exit::usage, "--group {} does not divide the {} columns of W, which awq needs", group, k);
  ScaleStatistics statistics{.a = mean_magnitude_of(ops, x), .w = {}, .dead = spec.dead};
  if (spec.awq_scaling == AwqScaling::duo) statistics.w = relative_magnitude(std::span(&w, 1), spec.group);
  const Tensor gram = ops.to_device(Tensor::zeros(DType::f32, {k, k}));
  ops.gram(gram, ops.to_device(x));
  ScaledMatrix result;
  result.search = search_scales(statistics, linear_loss(ops, w, gram, x.rows(), spec), "W");
  result.t = result.search.scales;

  const Tensor scaled = w.clone();
  multiply_columns(scaled, result.t);
  Tensor clip;
  if (spec.clip) {
    const Tensor limits = ops.empty(DType::f32, {n, k / group});
    ops.clip_search(limits, ops.to_device(scaled), ops.to_device(samples(x, result.t)), spec.grid(), group);
    clip = ops.to_host(limits);
  }
  result.m = quantize_rtn(ops, clamp_groups(scaled, clip), spec);
  finish(result, w);
  return result;
}

ScaledMatrix quantize_smooth_matrix(Ops& ops, const Tensor& w, const Tensor& x, const QuantSpec& spec) {
  ScaledMatrix result;
  result.t = smoothing_scales(channel_absmax(ops, ops.to_device(x)), channel_absmax(ops, ops.to_device(w)),
                              spec.alpha.value_or(default_alpha("")));
  const Tensor scaled = w.clone();
  multiply_columns(scaled, result.t);
  result.m = quantize_absmax(ops, scaled, spec.bits, spec.weight_per_tensor);
  finish(result, w);
  return result;
}

}  // namespace ptq

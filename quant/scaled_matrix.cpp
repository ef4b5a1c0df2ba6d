#include "quant/scaled_matrix.h"

#include "quant/activation_ranges.h"
#include "quant/awq_block.h"
#include "quant/channel_sums.h"
#include "quant/rtn.h"
#include "quant/smoothquant.h"
#include "quant/w8a8.h"

#include <algorithm>

namespace ptq {

namespace {

constexpr std::int64_t clip_tokens = 512;  // at least, where there are so many

std::vector<float> mean_magnitude(Ops& ops, const Tensor& x) {
  const ChannelSums sums = empty_channel_sums(ops, x.cols());
  ops.channel_sums(sums, ops.to_device(x));
  const Tensor moments = ops.to_host(sums.moments);
  std::vector<float> mean;
  for (std::int64_t k = 0; k < x.cols(); ++k)
    mean.push_back(static_cast<float>(moments.data<double>()[x.cols() + k] / static_cast<double>(x.rows())));
  return mean;
}

// values[:, k] *= t[k], or /= t[k].
void scale_columns(const Tensor& values, std::span<const float> t, bool divide) {
  float* v = values.data<float>();
  for (std::int64_t n = 0; n < values.rows(); ++n) {
    for (const float scale : t) {
      *v = divide ? *v / scale : *v * scale;
      ++v;
    }
  }
}

// Every max(1, T / 512)-th row, divided by t.
Tensor samples(const Tensor& x, std::span<const float> t) {
  const std::int64_t step = std::max<std::int64_t>(1, x.rows() / clip_tokens), rows = (x.rows() + step - 1) / step;
  const Tensor out = Tensor::empty(DType::f32, {rows, x.cols()});
  for (std::int64_t r = 0; r < rows; ++r)
    std::copy_n(x.data<float>() + r * step * x.cols(), x.cols(), out.data<float>() + r * x.cols());
  scale_columns(out, t, true);
  return out;
}

// Puts q back into W's own scale and measures its error there.
void finish(ScaledMatrix& result, const Tensor& w) {
  scale_columns(result.m.q, result.t, true);
  result.m.err_rows = squared_error_rows(w, result.m.q);
}

}  // namespace

ScaledMatrix quantize_awq_matrix(Ops& ops, const Tensor& w, const Tensor& x, const QuantSpec& spec) {
  const std::int64_t n = w.rows(), k = w.cols(), group = spec.group == -1 ? k : spec.group;
  require(k % group == 0, Exit::usage, "--group {} does not divide the {} columns of W, which awq needs", group, k);
  ScaleStatistics statistics{.a = mean_magnitude(ops, x), .w = {}, .dead = spec.dead};
  if (spec.awq_scaling == AwqScaling::duo) statistics.w = relative_magnitude(std::span(&w, 1), spec.group);
  const Tensor gram = ops.to_device(Tensor::zeros(DType::f32, {k, k}));
  ops.gram(gram, ops.to_device(x));
  const Tensor negated = w.clone();
  for (float& v : negated.span<float>()) v = -v;
  const Tensor original = ops.to_device(w), minus = ops.to_device(negated);
  const auto loss = [&](std::span<const float> t) {
    const Tensor change = ops.empty(DType::f32, w.shape());
    const Tensor scales = ops.to_device(Tensor::of(std::vector<float>(t.begin(), t.end()), {k}));
    ops.round_scaled(change, original, scales, spec.grid(), spec.group);
    ops.add(change, minus);
    return ops.gram_loss(change, gram) / static_cast<double>(x.rows() * n);
  };
  ScaledMatrix result;
  result.search = search_scales(statistics, loss, "W");
  result.t = result.search.scales;

  const Tensor scaled = w.clone();
  scale_columns(scaled, result.t, false);
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
  scale_columns(scaled, result.t, false);
  result.m = quantize_absmax(ops, scaled, spec.bits, spec.weight_per_tensor);
  finish(result, w);
  return result;
}

}  // namespace ptq

// Linear layers and the LM head, by the weight's format.
#include "cuda/backend/linear.h"

#include "cuda/backend/coded_weight.h"
#include "cuda/backend/cuda_ops.h"
#include "cuda/backend/float_weight.h"
#include "cuda/backend/int8_weight.h"
#include "cuda/gemm.h"
#include "cuda/head.h"
#include "host/op_checks.h"

#include <algorithm>
#include <numeric>

namespace ptq::cuda {

namespace {

// x: of aligned_rows.
GemmShape shape_of(const Tensor& x, const FloatWeight& w) {
  return {w.dtype(), device_raw(x), w.data(), x.cols(), w.ld(), x.rows(), w.out_features(), w.in_features()};
}

LogitMap map_of(const LogitSpec& spec) { return {spec.scale, spec.soft_cap}; }

// The targets of the rows that have any, ascending.
struct RowTargets {
  std::vector<std::int32_t> rows, begin, tokens;  // row i has the tokens begin[i] .. begin[i + 1] - 1
  std::vector<std::size_t> order;                 // number of each token's target
};

RowTargets by_row(std::span<const Target> targets) {
  RowTargets t;
  t.order.resize(targets.size());
  std::iota(t.order.begin(), t.order.end(), std::size_t{0});
  std::stable_sort(t.order.begin(), t.order.end(),
                   [&](std::size_t a, std::size_t b) { return targets[a].row < targets[b].row; });
  for (std::size_t i : t.order) {
    if (t.rows.empty() || t.rows.back() != targets[i].row) {
      t.rows.push_back(targets[i].row);
      t.begin.push_back(static_cast<std::int32_t>(t.tokens.size()));
    }
    t.tokens.push_back(targets[i].token);
  }
  t.begin.push_back(static_cast<std::int32_t>(t.tokens.size()));
  return t;
}

Tensor upload(Ops& ops, const std::vector<std::int32_t>& values) {
  return ops.to_device(Tensor::of(values, {static_cast<std::int64_t>(values.size())}));
}

// Rows of logits of a coded head that exist at a time: 16 MiB, which stay in the L2 cache, but at least a tile.
std::int64_t rows_at_once(std::int64_t vocabulary) {
  constexpr std::int64_t buffer = std::int64_t{16} << 20, tile = 128;
  return std::max(tile, buffer / (4 * vocabulary) / tile * tile);
}

}  // namespace

bool coded(const Weight& w) { return w.format() == WeightFormat::u4 || w.format() == WeightFormat::u8; }

DType input_of(const Weight& w) {
  check(w.format() != WeightFormat::s8, "int8 weights are for linear_s8");
  return coded(w) ? packed_codes(w).compute() : dtype_of_format(w.format());
}

Tensor aligned_rows(Ops& ops, Stream stream, const Tensor& x) {
  const std::size_t unit = 16, row = static_cast<std::size_t>(x.cols()) * size_of(x.dtype());
  if (row % unit == 0 && reinterpret_cast<std::uintptr_t>(device_raw(x)) % unit == 0) return x;
  const Tensor wide = ops.empty(x.dtype(), {x.rows(), padded_depth(x.cols(), x.dtype())});
  pad_rows(wide.raw(), wide.dtype(), wide.cols(), x.raw(), x.dtype(), x.rows(), x.cols(), stream);
  return wide;
}

WeightPtr CudaOps::pack(const Tensor& w, WeightFormat format) {
  if (format == WeightFormat::s8) return pack_absmax_s8(*this, w);
  check(format != WeightFormat::u4 && format != WeightFormat::u8, "pack: codes are for pack_codes");
  return std::make_shared<FloatWeight>(*this, stream_, w, format);
}

void CudaOps::linear(const Tensor& y, const Tensor& x, const Weight& w, const Tensor& b) {
  op_checks::linear("linear", input_of(w), input_of(w), y, x, w, b);
  if (coded(w)) return linear_coded(*this, stream_, y, x, w, b);
  const Tensor rows = aligned_rows(*this, stream_, x);
  const GemmShape shape = shape_of(rows, float_weight(w));
  launchers_.gemm(device_raw(y), shape, b ? device_data<float>(b) : nullptr, stream_);
}

void CudaOps::logits(const Tensor& y, const Tensor& x, const Weight& w, const LogitSpec& spec) {
  op_checks::linear("logits", DType::f32, input_of(w), y, x, w, {});
  if (coded(w)) {
    linear_coded(*this, stream_, y, x, w, {});
    transform_logits(device_data<float>(y), y.numel(), map_of(spec), stream_);
  } else {
    const Tensor rows = aligned_rows(*this, stream_, x);
    gemm_logits(device_data<float>(y), shape_of(rows, float_weight(w)), map_of(spec), stream_);
  }
}

std::vector<double> CudaOps::token_logprobs(const Tensor& x, std::span<const Target> targets, const Weight& w,
                                            const LogitSpec& spec) {
  const std::int64_t vocabulary = w.out_features();
  check(x.dtype() == input_of(w), "token_logprobs: x {} for a weight for {}", name_of(x.dtype()), name_of(input_of(w)));
  op_checks::token_logprobs(x, targets, w);
  if (targets.empty()) return {};
  const RowTargets wanted = by_row(targets);
  const auto rows = static_cast<std::int64_t>(wanted.rows.size());
  const auto count = static_cast<std::int64_t>(targets.size());
  Tensor scored = x;  // the rows with targets
  if (rows < x.rows()) {
    scored = empty(x.dtype(), {rows, x.cols()});
    gather_rows(scored, x, upload(*this, wanted.rows));
  }
  if (!coded(w)) scored = aligned_rows(*this, stream_, scored);

  const std::int64_t parts = parts_of_row(vocabulary, x.dtype());
  const std::int64_t step = coded(w) ? std::min(rows, rows_at_once(vocabulary)) : rows;
  const Tensor statistics = empty(DType::f32, {step, parts, 2}), target_logits = empty(DType::f32, {count});
  const Tensor logits_of_step = coded(w) ? empty(DType::f32, {step, vocabulary}) : Tensor();
  const Tensor begin = upload(*this, wanted.begin), tokens = upload(*this, wanted.tokens);
  const Tensor logprobs = empty(DType::f64, {count});
  for (std::int64_t first = 0; first < rows; first += step) {
    const std::int64_t end = std::min(first + step, rows);
    const Tensor some = scored.slice_rows(first, end);
    const LogitParts p{device_data<float>(statistics),
                       device_data<float>(target_logits),
                       device_data<std::int32_t>(begin) + first,
                       device_data<std::int32_t>(tokens),
                       end - first,
                       parts};
    if (coded(w)) {
      const Tensor y = logits_of_step.slice_rows(0, end - first);
      linear_coded(*this, stream_, y, some, w, {});
      logit_statistics(p, x.dtype(), device_data<float>(y), vocabulary, map_of(spec), stream_);
    } else {
      logit_statistics(p, shape_of(some, float_weight(w)), map_of(spec), stream_);
    }
    combine_logprobs(device_data<double>(logprobs), p, stream_);
  }
  const Tensor sorted = to_host(logprobs);
  std::vector<double> result(targets.size());
  for (std::size_t i = 0; i < targets.size(); ++i) result[wanted.order[i]] = sorted.data<double>()[i];
  return result;
}

}  // namespace ptq::cuda

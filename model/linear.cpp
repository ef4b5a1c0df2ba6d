#include "model/linear.h"

#include "model/nf4_book.h"
#include "model/outlier_rows.h"

#include <algorithm>
#include <cmath>

namespace ptq {

namespace {

Tensor filled(std::int64_t n, float value) {
  Tensor t = Tensor::empty(DType::f32, {n});
  std::fill_n(t.data<float>(), n, value);
  return t;
}

float largest(std::span<const float> values) {
  float max = 0.0f;
  for (float v : values) max = v > max || std::isnan(v) ? v : max;
  return max;
}

// The absmax that each row is quantized against; empty: its own.
Tensor row_ranges(Ops& ops, const Tensor& x, const ActivationQuant& how, float fixed_absmax,
                  std::span<const Segment> segments) {
  switch (how.range) {
    case ActivationRange::token:
      return {};
    case ActivationRange::fixed:
      return ops.to_device(filled(x.rows(), fixed_absmax));
    case ActivationRange::sequence:
      break;
  }
  const Tensor own = ops.empty(DType::f32, {x.rows()});
  ops.row_absmax(own, x);
  const Tensor ranges = ops.to_host(own).clone();
  for (const Segment& s : segments) {
    check(s.prefix < 0, "a shared prefix with activation ranges per sequence");
    const auto rows = ranges.slice_rows(s.begin, s.end).span<float>();
    std::fill(rows.begin(), rows.end(), largest(rows));
  }
  return ops.to_device(ranges);
}

Int8Rows quantize(Ops& ops, const Tensor& x, const ActivationQuant& how, float fixed_absmax,
                  std::span<const Segment> segments) {
  if (how.outlier_threshold > 0) return quantize_with_outliers(ops, x, segments, how.outlier_threshold, how.bits);
  return ops.quantize_rows(x, how.bits, row_ranges(ops, x, how, fixed_absmax, segments));
}

// The values that integers and outlier columns stand for.
Tensor dequantize(Ops& ops, const Int8Rows& rows, DType dtype) {
  const std::int64_t columns = rows.codes.cols();
  const Tensor codes = ops.to_host(rows.codes), scales = ops.to_host(rows.scales);
  const Tensor y = Tensor::empty(DType::f32, {rows.codes.rows(), columns});
  for (std::int64_t t = 0; t < y.rows(); ++t) {
    for (std::int64_t i = 0; i < columns; ++i)
      y.data<float>()[t * columns + i] =
          static_cast<float>(codes.data<std::int8_t>()[t * columns + i]) * scales.data<float>()[t];
  }
  if (rows.outliers) {
    const Tensor outliers = ops.to_host(rows.outliers), index = ops.to_host(rows.outlier_columns);
    for (std::int64_t t = 0; t < y.rows(); ++t) {
      for (std::int64_t c = 0; c < outliers.cols(); ++c)
        y.data<float>()[t * columns + index.data<std::int32_t>()[c]] += outliers.data<float>()[t * outliers.cols() + c];
    }
  }
  return ops.to_device(y.to(dtype));
}

// Signed codes and a scale per row in the form of packed checkpoints: zero point 128.
CodedWeight unsigned_codes(const Int8Weight& w) {
  const std::int64_t n = w.codes.rows(), columns = w.codes.cols();
  CodedWeight out{8, Tensor::empty(DType::u8, {n, columns}), w.scales.reshape({n, 1}),
                  filled(n, 128.0f).reshape({n, 1}), Tensor::zeros(DType::i32, {columns})};
  const auto from = w.codes.span<std::int8_t>();
  std::transform(from.begin(), from.end(), out.codes.data<std::uint8_t>(),
                 [](std::int8_t c) { return static_cast<std::uint8_t>(c + 128); });
  return out;
}

}  // namespace

WeightFormat float_format(DType compute) {
  switch (compute) {
    case DType::bf16:
      return WeightFormat::bf16;
    case DType::f16:
      return WeightFormat::f16;
    default:
      return WeightFormat::f32;
  }
}

bool takes_integers(const ActivationQuant& how, IntegerProducts products) {
  return how.kind == ActivationKind::integer && products == IntegerProducts::exact;
}

WeightFormat format_of_floats(DType compute, const ActivationQuant& how, IntegerProducts products) {
  return how.weight_bits > 0 && takes_integers(how, products) ? WeightFormat::s8 : float_format(compute);
}

WeightPtr pack_floats(Ops& ops, const Tensor& w, DType compute, const ActivationQuant& how, IntegerProducts products) {
  if (how.kind != ActivationKind::integer || how.weight_bits == 0) return ops.pack(w, float_format(compute));
  const Tensor x = ops.to_device(w);
  Tensor absmax;
  if (how.weight_per_tensor) {
    const Tensor rows = ops.empty(DType::f32, {w.rows()});
    ops.row_absmax(rows, x);
    absmax = ops.to_device(filled(w.rows(), largest(ops.to_host(rows).span<float>())));
  }
  if (takes_integers(how, products)) {
    const Int8Rows rows = ops.quantize_rows(x, how.weight_bits, absmax);
    return ops.pack_s8(ops.to_host(rows.codes), ops.to_host(rows.scales));
  }
  const Tensor values = ops.empty(x.dtype(), x.shape());
  ops.fake_quantize_rows(values, x, how.weight_bits, absmax);
  return ops.pack(values, float_format(compute));
}

WeightPtr pack_int8(Ops& ops, const Int8Weight& w, DType compute, const ActivationQuant& how,
                    IntegerProducts products) {
  if (takes_integers(how, products)) return ops.pack_s8(w.codes, w.scales);
  return ops.pack_codes(unsigned_codes(w), compute);
}

void fake_quantize(Ops& ops, const Tensor& y, const Tensor& x, const ActivationQuant& how, float fixed_absmax,
                   std::span<const Segment> segments) {
  if (how.kind == ActivationKind::nf4)
    ops.fake_round_to_book(y, x, nf4_book, nf4_block);
  else
    ops.fake_quantize_rows(y, x, how.bits, row_ranges(ops, x, how, fixed_absmax, segments));
}

Tensor SharedInput::apply(const Linear& linear) {
  const Weight& w = *linear.weight;
  const Tensor y = ops_.empty(x_.dtype(), {x_.rows(), w.out_features()});
  if (w.format() == WeightFormat::s8) {
    if (!codes_) codes_ = quantize(ops_, x_, how_, fixed_absmax_, segments_);
    ops_.linear_s8(y, *codes_, w, linear.bias);
    return y;
  }
  if (!values_) {
    if (!how_) {
      values_ = x_;
    } else if (how_.outlier_threshold > 0) {
      values_ = dequantize(ops_, quantize(ops_, x_, how_, fixed_absmax_, segments_), x_.dtype());
    } else {
      values_ = ops_.empty(x_.dtype(), x_.shape());
      fake_quantize(ops_, values_, x_, how_, fixed_absmax_, segments_);
    }
  }
  if (few_)
    ops_.linear_few(y, values_, w, linear.bias);
  else
    ops_.linear(y, values_, w, linear.bias);
  return y;
}

}  // namespace ptq

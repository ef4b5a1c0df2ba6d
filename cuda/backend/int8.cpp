// W8A8 on the device: activations as integers, int8 weights, and their product.
#include "cuda/backend/cuda_ops.h"
#include "cuda/backend/int8_weight.h"
#include "cuda/gemm_s8.h"
#include "cuda/quantize_rows.h"
#include "host/op_checks.h"

#include <cstring>

namespace ptq::cuda {

namespace {

FloatRows float_rows(const Tensor& x) { return {device_raw(x), x.dtype(), x.rows(), x.cols()}; }

const float* floats_or_null(const Tensor& t) { return t ? device_data<float>(t) : nullptr; }

const Int8Weight& packed_int8(const Weight& w) {
  const auto* p = dynamic_cast<const Int8Weight*>(&w);
  check(p != nullptr, "linear_s8: the weight is not int8, or belongs to another backend");
  return *p;
}

}  // namespace

Int8Weight::Int8Weight(Tensor codes, Tensor scales, std::int64_t in_features)
    : codes_(std::move(codes)), scales_(std::move(scales)), in_features_(in_features) {}

WeightPtr pack_absmax_s8(CudaOps& ops, const Tensor& w) {
  check(w.rank() == 2, "pack: weight of shape {}", to_string(w.shape()));
  op_checks::int8_width(w.cols());
  const Int8Rows rows = ops.quantize_rows(ops.to_device(w), 8, {});
  if (s8_stride(w.cols()) == w.cols()) return std::make_shared<Int8Weight>(rows.codes, rows.scales, w.cols());
  return ops.pack_s8(ops.to_host(rows.codes), ops.to_host(rows.scales));
}

WeightPtr CudaOps::pack_s8(const Tensor& codes, const Tensor& scales) {
  op_checks::pack_s8(codes, scales);
  const std::int64_t columns = codes.cols(), stride = s8_stride(columns);
  const Tensor padded = Tensor::zeros(DType::i8, {codes.rows(), stride});
  for (std::int64_t r = 0; r < codes.rows(); ++r) {
    std::memcpy(padded.data<std::int8_t>() + r * stride, codes.data<std::int8_t>() + r * columns,
                static_cast<std::size_t>(columns));
  }
  return std::make_shared<Int8Weight>(to_device(padded), to_device(scales), columns);
}

void CudaOps::row_absmax(const Tensor& absmax, const Tensor& x) {
  op_checks::row_absmax(absmax, x);
  cuda::row_absmax(device_data<float>(absmax), float_rows(x), stream_);
}

Int8Rows CudaOps::quantize_rows(const Tensor& x, int bits, const Tensor& absmax) {
  op_checks::quantize_rows("quantize_rows", x, bits, absmax);
  Int8Rows out{empty(DType::i8, {x.rows(), x.cols()}), empty(DType::f32, {x.rows()}), {}, {}};
  cuda::quantize_rows(device_data<std::int8_t>(out.codes), device_data<float>(out.scales), float_rows(x), bits,
                      floats_or_null(absmax), stream_);
  return out;
}

void CudaOps::fake_quantize_rows(const Tensor& y, const Tensor& x, int bits, const Tensor& absmax) {
  op_checks::fake_quantize_rows(y, x, bits, absmax);
  cuda::fake_quantize_rows(device_raw(y), float_rows(x), bits, floats_or_null(absmax), stream_);
}

void CudaOps::linear_s8(const Tensor& y, const Int8Rows& x, const Weight& weight, const Tensor& b) {
  const Int8Weight& w = packed_int8(weight);
  const std::int64_t rows = y.rows(), n = w.out_features(), columns = w.in_features(), stride = w.stride();
  op_checks::linear_s8(y, x, w, b);

  Tensor codes = x.codes;
  if (stride != columns || reinterpret_cast<std::uintptr_t>(codes.raw()) % 16 != 0) {
    codes = empty(DType::i8, {rows, stride});
    pad_codes(device_data<std::int8_t>(codes), stride, device_data<std::int8_t>(x.codes), rows, columns, stream_);
  }
  const std::int64_t outliers = x.outlier_columns ? x.outlier_columns.numel() : 0;
  Tensor outlier_weights;
  if (outliers > 0) {
    outlier_weights = empty(DType::f32, {outliers, s8_outlier_stride(n)});
    gather_code_columns(device_data<float>(outlier_weights), device_data<std::int8_t>(w.codes()), stride,
                        device_data<float>(w.scales()), device_data<std::int32_t>(x.outlier_columns), n, outliers,
                        stream_);
  }
  launchers_.gemm_s8({.y = device_raw(y),
                      .dtype = y.dtype(),
                      .x = device_data<std::int8_t>(codes),
                      .x_scales = device_data<float>(x.scales),
                      .w = device_data<std::int8_t>(w.codes()),
                      .w_scales = device_data<float>(w.scales()),
                      .bias = floats_or_null(b),
                      .outliers = outliers > 0 ? device_data<float>(x.outliers) : nullptr,
                      .outlier_weights = floats_or_null(outlier_weights),
                      .rows = rows,
                      .n = n,
                      .stride = stride,
                      .outlier_columns = outliers},
                     stream_);
}

}  // namespace ptq::cuda

#include "cuda/backend/float_weight.h"

#include "cuda/backend/cuda_ops.h"
#include "cuda/gemm.h"

#include <cstring>

namespace ptq::cuda {

namespace {

// [R, ld] with zeros beyond the columns of w.
Tensor padded(const Tensor& w, std::int64_t ld) {
  if (w.cols() == ld) return w;
  Tensor wide = Tensor::zeros(w.dtype(), {w.rows(), ld});
  const std::size_t from = static_cast<std::size_t>(w.cols()) * size_of(w.dtype()),
                    to = static_cast<std::size_t>(ld) * size_of(w.dtype());
  for (std::int64_t r = 0; r < w.rows(); ++r) {
    std::memcpy(static_cast<std::byte*>(wide.raw()) + static_cast<std::size_t>(r) * to,
                static_cast<const std::byte*>(w.raw()) + static_cast<std::size_t>(r) * from, from);
  }
  return wide;
}

}  // namespace

DType dtype_of_format(WeightFormat format) {
  switch (format) {
    case WeightFormat::f32:
      return DType::f32;
    case WeightFormat::bf16:
      return DType::bf16;
    case WeightFormat::f16:
      return DType::f16;
    default:
      fail(Exit::internal, "a weight of codes where one of floats was expected");
  }
}

FloatWeight::FloatWeight(CudaOps& ops, Stream stream, const Tensor& w, WeightFormat format)
    : n_(w.rows()), i_(w.cols()), format_(format) {
  const DType type = dtype_of_format(format);
  const std::int64_t ld = padded_depth(i_, type);
  if (w.place() == Place::device) {
    data_ = ops.empty(type, {n_, ld});
    pad_rows(data_.raw(), type, ld, w.raw(), w.dtype(), n_, i_, stream);
  } else {
    data_ = ops.to_device(padded(w.to(type), ld));
  }
}

const void* FloatWeight::data() const { return device_raw(data_); }

const FloatWeight& float_weight(const Weight& w) {
  const auto* weight = dynamic_cast<const FloatWeight*>(&w);
  check(weight != nullptr, "a weight of another backend or of codes");
  return *weight;
}

}  // namespace ptq::cuda

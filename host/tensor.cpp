#include "host/tensor.h"

#include <cstdlib>
#include <cstring>

namespace ptq {

namespace {

template <class From, class To>
void convert(const From* from, To* to, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) to[i] = from_float<To>(to_float(from[i]));
}

void convert_from_f64(const double* from, const Tensor& to) {
  const std::int64_t n = to.numel();
  for (std::int64_t i = 0; i < n; ++i) {
    const auto x = static_cast<float>(from[i]);
    if (to.dtype() == DType::f32) to.data<float>()[i] = x;
    if (to.dtype() == DType::bf16) to.data<bf16>()[i] = to_bf16(x);
    if (to.dtype() == DType::f16) to.data<f16>()[i] = to_f16(x);
  }
}

template <class From>
void convert_any(const From* from, const Tensor& to) {
  switch (to.dtype()) {
    case DType::f32: return convert(from, to.data<float>(), to.numel());
    case DType::bf16: return convert(from, to.data<bf16>(), to.numel());
    case DType::f16: return convert(from, to.data<f16>(), to.numel());
    default: check(false, "no conversion to {}", name_of(to.dtype()));
  }
}

}  // namespace

std::string to_string(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

std::int64_t numel(const Shape& shape) {
  std::int64_t n = 1;
  for (std::int64_t extent : shape) {
    check(extent >= 0, "negative extent in shape {}", to_string(shape));
    check(!__builtin_mul_overflow(n, extent, &n), "shape {} overflows", to_string(shape));
  }
  return n;
}

Tensor Tensor::empty(DType dtype, Shape shape) {
  Tensor t;
  t.dtype_ = dtype;
  t.shape_ = std::move(shape);
  // Aligned by hand: glibc before 2.38 does not give a freed aligned block to the next aligned request of its size, so
  // that memory would grow with every tensor that comes and goes.
  constexpr std::size_t alignment = 64;
  const std::size_t bytes = t.bytes() + alignment;
  void* memory = std::malloc(bytes);
  require(memory != nullptr, Exit::again, "out of memory: {} bytes for a {} tensor of shape {}", bytes, name_of(dtype),
          to_string(t.shape_));
  t.owner_ = std::shared_ptr<void>(memory, std::free);
  std::size_t space = bytes;
  t.data_ = std::align(alignment, t.bytes(), memory, space);
  return t;
}

Tensor Tensor::zeros(DType dtype, Shape shape) {
  Tensor t = empty(dtype, std::move(shape));
  std::memset(t.data_, 0, t.bytes());
  return t;
}

Tensor Tensor::wrap(DType dtype, Shape shape, void* data, std::shared_ptr<void> owner, Place place) {
  Tensor t;
  t.dtype_ = dtype;
  t.shape_ = std::move(shape);
  t.data_ = data;
  t.owner_ = std::move(owner);
  t.place_ = place;
  return t;
}

Tensor Tensor::reshape(Shape shape) const {
  check(ptq::numel(shape) == numel(), "reshape {} to {}", to_string(shape_), to_string(shape));
  Tensor t = *this;
  t.shape_ = std::move(shape);
  return t;
}

Tensor Tensor::slice_rows(std::int64_t begin, std::int64_t end) const {
  check(rank() >= 1 && 0 <= begin && begin <= end && end <= shape_[0], "rows [{}, {}) of {}", begin, end,
        to_string(shape_));
  Tensor t = *this;
  const std::int64_t row = shape_[0] == 0 ? 0 : numel() / shape_[0];
  t.shape_[0] = end - begin;
  t.data_ = static_cast<std::byte*>(data_) + static_cast<std::size_t>(begin * row) * size_of(dtype_);
  return t;
}

Tensor Tensor::clone() const {
  check(place_ == Place::host, "clone of device memory");
  Tensor t = empty(dtype_, shape_);
  if (bytes() > 0) std::memcpy(t.data_, data_, bytes());
  return t;
}

Tensor Tensor::to(DType dtype) const {
  check(place_ == Place::host, "conversion of device memory");
  if (dtype == dtype_) return *this;
  Tensor t = empty(dtype, shape_);
  switch (dtype_) {
    case DType::f32: convert_any(data<float>(), t); break;
    case DType::bf16: convert_any(data<bf16>(), t); break;
    case DType::f16: convert_any(data<f16>(), t); break;
    case DType::f64: convert_from_f64(data<double>(), t); break;
    default: check(false, "no conversion from {}", name_of(dtype_));
  }
  return t;
}

}  // namespace ptq

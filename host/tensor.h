// Tensor: a typed, shaped, row-major view that shares ownership of its memory. Views are cheap to copy; slicing
// rows never copies. Memory may belong to a device: data<T>() then refuses, because the host must not touch it.
#pragma once

#include "host/dtype.h"
#include "host/error.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace ptq {

using Shape = std::vector<std::int64_t>;

std::string to_string(const Shape& shape);  // "[49152, 576]"
std::int64_t numel(const Shape& shape);     // product, 1 for rank 0; fails on overflow or a negative extent

enum class Place : std::uint8_t { host, device };

template <class T>
struct dtype_of;
template <>
struct dtype_of<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct dtype_of<double> {
  static constexpr DType value = DType::f64;
};
template <>
struct dtype_of<bf16> {
  static constexpr DType value = DType::bf16;
};
template <>
struct dtype_of<f16> {
  static constexpr DType value = DType::f16;
};
template <>
struct dtype_of<std::int8_t> {
  static constexpr DType value = DType::i8;
};
template <>
struct dtype_of<std::uint8_t> {
  static constexpr DType value = DType::u8;
};
template <>
struct dtype_of<std::int32_t> {
  static constexpr DType value = DType::i32;
};
template <>
struct dtype_of<std::int64_t> {
  static constexpr DType value = DType::i64;
};

class Tensor {
 public:
  Tensor() = default;

  // Uninitialised host memory, 64-byte aligned. Fails with exit 75 if there is not enough.
  static Tensor empty(DType dtype, Shape shape);
  static Tensor zeros(DType dtype, Shape shape);
  // Memory of someone else; `owner` keeps it alive (may be null for static memory).
  static Tensor wrap(DType dtype, Shape shape, void* data, std::shared_ptr<void> owner, Place place = Place::host);
  template <class T>
  static Tensor of(const std::vector<T>& values, Shape shape);

  explicit operator bool() const { return data_ != nullptr; }
  DType dtype() const { return dtype_; }
  Place place() const { return place_; }
  const Shape& shape() const { return shape_; }
  int rank() const { return static_cast<int>(shape_.size()); }
  std::int64_t dim(int i) const { return shape_.at(static_cast<std::size_t>(i)); }
  std::int64_t numel() const { return ptq::numel(shape_); }
  std::size_t bytes() const { return static_cast<std::size_t>(numel()) * size_of(dtype_); }

  // Matrix view of any rank >= 1: all leading dimensions are rows.
  std::int64_t cols() const { return shape_.empty() ? 1 : shape_.back(); }
  std::int64_t rows() const { return cols() == 0 ? 0 : numel() / cols(); }

  Tensor reshape(Shape shape) const;                              // same elements, same memory
  Tensor slice_rows(std::int64_t begin, std::int64_t end) const;  // rows [begin, end) of dimension 0
  Tensor clone() const;                                           // host only
  Tensor to(DType dtype) const;  // host only; floats among each other; same dtype: *this

  void* raw() const { return data_; }
  template <class T>
  T* data() const {
    check(place_ == Place::host, "host access to device memory");
    check(dtype_of<T>::value == dtype_, "tensor is {}, accessed as {}", name_of(dtype_), name_of(dtype_of<T>::value));
    return static_cast<T*>(data_);
  }
  template <class T>
  std::span<T> span() const {
    return {data<T>(), static_cast<std::size_t>(numel())};
  }

 private:
  DType dtype_ = DType::f32;
  Place place_ = Place::host;
  Shape shape_;
  void* data_ = nullptr;
  std::shared_ptr<void> owner_;
};

template <class T>
Tensor Tensor::of(const std::vector<T>& values, Shape shape) {
  Tensor t = empty(dtype_of<T>::value, std::move(shape));
  check(static_cast<std::int64_t>(values.size()) == t.numel(), "{} values for shape {}", values.size(),
        to_string(t.shape()));
  std::copy(values.begin(), values.end(), t.data<T>());
  return t;
}

}  // namespace ptq

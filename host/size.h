// Size: an unsigned 64-bit count or byte offset whose arithmetic cannot wrap. Every size, offset and product
// read from a file goes through it, because one unchecked multiplication is how loaders get exploited.
#pragma once

#include "host/error.h"

#include <compare>
#include <cstdint>
#include <limits>

namespace ptq {

class Size {
 public:
  constexpr Size(std::uint64_t value = 0) : value_(value) {}

  constexpr std::uint64_t value() const { return value_; }

  // As an index into memory of this process.
  std::size_t index() const { return static_cast<std::size_t>(value_); }
  std::int64_t signed_value() const {
    require(value_ <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()), Exit::data,
            "size {} does not fit into 63 bits", value_);
    return static_cast<std::int64_t>(value_);
  }

  friend Size operator+(Size a, Size b) {
    Size sum;
    require(!__builtin_add_overflow(a.value_, b.value_, &sum.value_), Exit::data, "size overflow: {} + {}", a.value_,
            b.value_);
    return sum;
  }
  friend Size operator-(Size a, Size b) {
    require(a.value_ >= b.value_, Exit::data, "size underflow: {} - {}", a.value_, b.value_);
    return Size(a.value_ - b.value_);
  }
  friend Size operator*(Size a, Size b) {
    Size product;
    require(!__builtin_mul_overflow(a.value_, b.value_, &product.value_), Exit::data, "size overflow: {} * {}",
            a.value_, b.value_);
    return product;
  }
  friend constexpr auto operator<=>(Size, Size) = default;

 private:
  std::uint64_t value_;
};

}  // namespace ptq

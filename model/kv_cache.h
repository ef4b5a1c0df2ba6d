// Keys and values of one sequence, for decoding.
#pragma once

#include "host/tensor.h"

#include <cstdint>
#include <vector>

namespace ptq {

struct KvCache {
  std::vector<Tensor> k, v;       // per layer [capacity, K*C] in the compute dtype, rotated keys
  std::vector<std::int32_t> ids;  // the tokens so far
  std::int64_t capacity = 0;

  std::int64_t length() const { return static_cast<std::int64_t>(ids.size()); }

  // Of the whole capacity.
  std::size_t bytes() const {
    std::size_t sum = 0;
    for (const auto* tensors : {&k, &v}) {
      for (const Tensor& t : *tensors) sum += t.bytes();
    }
    return sum;
  }
};

// Rows at or below which decoding takes Ops::linear_few.
inline constexpr std::int64_t few_rows = 16;

}  // namespace ptq

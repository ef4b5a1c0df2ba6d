// What all weights of this backend have in common: their data are tensors, which can be moved.
#pragma once

#include "host/ops.h"

#include <vector>

namespace ptq::cuda {

class DeviceWeight : public Weight {
 public:
  // On the device, or in host memory while the weight is streamed and not in use (weight_stream.h).
  virtual std::vector<Tensor*> parts() = 0;

  std::size_t bytes() const override {
    std::size_t sum = 0;
    for (const Tensor* t : const_cast<DeviceWeight*>(this)->parts()) sum += t->bytes();
    return sum;
  }
};

}  // namespace ptq::cuda

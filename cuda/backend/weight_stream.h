// WeightStream of host/ops.h. Each block is one allocation of page-locked host memory, from which the GPU copies by
// itself, and the device has two slots for a block. While the kernels of a block run, the next one is copied:
//
//     compute stream   | block i            | block i+1          | ...
//     copy stream      | i+1 to slot B      | i+2 to slot A      | ...
//
// Two events order them: kernels of a block wait until it is copied, and a copy waits for the kernels called before it,
// the last to use its slot. The two slots are the only device memory that both streams touch.
#pragma once

#include "cuda/backend/memory.h"
#include "cuda/stream.h"
#include "host/ops.h"

#include <array>
#include <vector>

namespace ptq::cuda {

class DeviceWeightStream final : public WeightStream {
 public:
  // compute: the stream of the products.
  DeviceWeightStream(Stream compute, std::shared_ptr<DeviceMemory> memory);
  ~DeviceWeightStream() override;
  DeviceWeightStream(const DeviceWeightStream&) = delete;
  DeviceWeightStream& operator=(const DeviceWeightStream&) = delete;

  void add(std::span<const WeightPtr> weights) override;
  void enter(int block) override;

 private:
  struct Part {
    Tensor* tensor;  // of the weight
    Tensor host;
    std::size_t offset;  // in the block
  };
  struct Block {
    std::vector<WeightPtr> weights;
    std::vector<Part> parts;
    std::shared_ptr<void> host;
    std::size_t bytes = 0;
  };
  struct Slot {
    std::shared_ptr<void> device;
    int block = -1;  // what is or will be there
    Event copied = nullptr;
  };

  void copy(int block, Slot& to);

  Stream compute_, copy_ = nullptr;
  Event called_ = nullptr;  // everything on the compute stream so far
  std::shared_ptr<DeviceMemory> memory_;
  std::vector<Block> blocks_;
  std::array<Slot, 2> slots_;
  std::size_t current_ = 0;  // slot of the entered block
  int entered_ = -1;
};

}  // namespace ptq::cuda

#include "cuda/backend/weight_stream.h"

#include "cuda/backend/cuda_ops.h"
#include "cuda/backend/device_weight.h"
#include "cuda/backend/runtime.h"

#include <algorithm>

namespace ptq::cuda {

namespace {

constexpr std::size_t alignment = 256;  // as cudaMalloc

std::shared_ptr<void> page_locked(std::size_t bytes) {
  void* memory = nullptr;
  const cudaError_t error = cudaMallocHost(&memory, bytes);
  require(error != cudaErrorMemoryAllocation, Exit::again,
          "out of host memory for weights that do not fit on the GPU: {} MiB more cannot be locked; use a larger "
          "--gpu-memory, or --device cpu",
          (bytes >> 20) + 1);
  cuda_check(error, "reserving memory of the host");
  return {memory, [](void* p) { cudaFreeHost(p); }};
}

std::byte* at(const std::shared_ptr<void>& memory, std::size_t offset) {
  return static_cast<std::byte*>(memory.get()) + offset;
}

}  // namespace

DeviceWeightStream::DeviceWeightStream(Stream compute, std::shared_ptr<DeviceMemory> memory)
    : compute_(compute), memory_(std::move(memory)) {
  cuda_check(cudaStreamCreate(&copy_), "creating a stream");
  for (Event* event : {&called_, &slots_[0].copied, &slots_[1].copied}) {
    cuda_check(cudaEventCreateWithFlags(event, cudaEventDisableTiming), "creating an event");
  }
}

DeviceWeightStream::~DeviceWeightStream() {
  cudaStreamSynchronize(copy_);
  cudaStreamDestroy(copy_);
  for (Event event : {called_, slots_[0].copied, slots_[1].copied}) cudaEventDestroy(event);
}

void DeviceWeightStream::add(std::span<const WeightPtr> weights) {
  Block block;
  block.weights.assign(weights.begin(), weights.end());
  for (const WeightPtr& weight : block.weights) {
    const auto own = std::dynamic_pointer_cast<const DeviceWeight>(weight);
    check(own != nullptr, "a weight of another backend");
    for (Tensor* tensor : std::const_pointer_cast<DeviceWeight>(own)->parts()) {  // only its place changes
      block.parts.push_back({tensor, {}, block.bytes});
      block.bytes += (tensor->bytes() + alignment - 1) / alignment * alignment;
    }
  }
  block.host = page_locked(block.bytes);
  for (Part& p : block.parts) {
    p.host = Tensor::wrap(p.tensor->dtype(), p.tensor->shape(), at(block.host, p.offset), block.host);
    cuda_check(cudaMemcpyAsync(p.host.raw(), device_raw(*p.tensor), p.host.bytes(), cudaMemcpyDeviceToHost, compute_),
               "copying weights from the device");
  }
  // Nobody waits for it here: the copies back wait for all that the compute stream was given before.
  for (const Part& p : block.parts) *p.tensor = p.host;
  blocks_.push_back(std::move(block));
}

void DeviceWeightStream::enter(int block) {
  const int count = static_cast<int>(blocks_.size());
  check(0 <= block && block < count, "block {} of {} streamed ones", block, count);
  if (!slots_[1].device) {
    std::size_t largest = 0;
    for (const Block& b : blocks_) largest = std::max(largest, b.bytes);
    for (Slot& s : slots_) {
      s.device = memory_->allocate(largest);
      require(s.device != nullptr, Exit::again, "out of GPU memory for two blocks of weights ({} MiB each); {}",
              (largest >> 20) + 1, memory_levers);
    }
  }
  if (entered_ >= 0) {
    for (const Part& p : blocks_[static_cast<std::size_t>(entered_)].parts) *p.tensor = p.host;
  }
  entered_ = block;
  if (slots_[current_].block != block) current_ = 1 - current_;
  Slot &now = slots_[current_], &other = slots_[1 - current_];
  if (now.block != block) copy(block, now);
  cuda_check(cudaStreamWaitEvent(compute_, now.copied, 0), "waiting for weights");
  for (const Part& p : blocks_[static_cast<std::size_t>(block)].parts) {
    *p.tensor = Tensor::wrap(p.host.dtype(), p.host.shape(), at(now.device, p.offset), now.device, Place::device);
  }
  const int next = (block + 1) % count;
  if (next != block && other.block != next) copy(next, other);
}

void DeviceWeightStream::copy(int block, Slot& to) {
  const Block& from = blocks_[static_cast<std::size_t>(block)];
  cuda_check(cudaEventRecord(called_, compute_), "recording an event");
  cuda_check(cudaStreamWaitEvent(copy_, called_, 0), "waiting for kernels");
  cuda_check(cudaMemcpyAsync(to.device.get(), from.host.get(), from.bytes, cudaMemcpyHostToDevice, copy_),
             "copying weights to the device");
  cuda_check(cudaEventRecord(to.copied, copy_), "recording an event");
  to.block = block;
}

std::unique_ptr<WeightStream> CudaOps::stream_weights() {
  return std::make_unique<DeviceWeightStream>(stream_, memory_);
}

}  // namespace ptq::cuda

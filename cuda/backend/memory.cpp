#include "cuda/backend/memory.h"

#include "cuda/backend/runtime.h"
#include "host/error.h"

#include <algorithm>

namespace ptq::cuda {

namespace {

// Sizes of cached blocks, so that a block fits the next request of about its size: 512 bytes, then eighths of a power
// of two (at most 12.5 % more than asked for).
std::size_t block_size(std::size_t bytes) {
  std::size_t step = 512;
  while (step * 16 <= bytes) step *= 2;
  return (std::max<std::size_t>(bytes, 1) + step - 1) / step * step;
}

std::size_t free_memory() {
  constexpr std::size_t spare = std::size_t{256} << 20;  // for the driver and libraries
  std::size_t free = 0, total = 0;
  cuda_check(cudaMemGetInfo(&free, &total), "asking for free memory");
  return free > spare ? free - spare : free;
}

}  // namespace

DeviceMemory::DeviceMemory(std::size_t cap, bool cached) : cap_(free_memory()), keep_(cached) {
  if (cap > 0) cap_ = std::min(cap_, cap);
}

DeviceMemory::~DeviceMemory() { empty_cache(); }

std::shared_ptr<void> DeviceMemory::allocate(std::size_t bytes) {
  const std::size_t size = keep_ ? block_size(bytes) : bytes;
  void* memory = nullptr;
  if (const auto known = cache_.find(size); known != cache_.end()) {
    memory = known->second;
    cached_ -= size;
    cache_.erase(known);
  } else {
    if (in_use_ + cached_ + size > cap_) empty_cache();
    cudaError_t error = in_use_ + size > cap_ ? cudaErrorMemoryAllocation : cudaMalloc(&memory, size);
    if (error == cudaErrorMemoryAllocation && cached_ > 0 && in_use_ + size <= cap_) {
      cudaGetLastError();  // forget it
      empty_cache();
      error = cudaMalloc(&memory, size);
    }
    if (error == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      return nullptr;
    }
    cuda_check(error, "cudaMalloc");
  }
  in_use_ += size;
  peak_ = std::max(peak_, in_use_);
  return {memory, [self = shared_from_this(), size](void* p) { self->release(p, size); }};
}

std::size_t DeviceMemory::left() const {
  const std::size_t left = cap_ - in_use_;
  return keep_ ? left - left / 9 : left;  // a block is up to an eighth larger than asked for
}

void DeviceMemory::release(void* memory, std::size_t bytes) {
  in_use_ -= bytes;
  if (keep_) {
    cache_.emplace(bytes, memory);
    cached_ += bytes;
  } else {
    cudaFree(memory);
  }
}

void DeviceMemory::empty_cache() {
  for (const auto& [size, memory] : cache_) cudaFree(memory);
  cache_.clear();
  cached_ = 0;
}

}  // namespace ptq::cuda

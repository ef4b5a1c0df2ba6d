// Device memory: allocations that are cached for the next of their size, under a cap. One stream uses it, so that a
// block may be used again as soon as its last tensor is gone.
#pragma once

#include <cstddef>
#include <map>
#include <memory>

namespace ptq::cuda {

class DeviceMemory : public std::enable_shared_from_this<DeviceMemory> {
 public:
  // cap: most bytes in use and cached together; 0: what the device has. cached = false gives every block back at once,
  // in its exact size (the SIMT executor, where AddressSanitizer watches the borders).
  DeviceMemory(std::size_t cap, bool cached);
  ~DeviceMemory();

  // Aligned to 256 bytes; null if there is not enough, even after the cache has been emptied.
  std::shared_ptr<void> allocate(std::size_t bytes);

  // Bytes that a few large allocations may still take, sizes of cached blocks allowed for.
  std::size_t left() const;

  std::size_t in_use() const { return in_use_; }
  std::size_t peak() const { return peak_; }
  std::size_t cap() const { return cap_; }

 private:
  void release(void* memory, std::size_t bytes);
  void empty_cache();

  std::size_t cap_, in_use_ = 0, cached_ = 0, peak_ = 0;
  bool keep_;
  std::multimap<std::size_t, void*> cache_;  // by size
};

}  // namespace ptq::cuda

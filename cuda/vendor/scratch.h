// Memory for the libraries' work, beside that of the backend: it does not count towards --gpu-memory.
#pragma once

#include "cuda/backend/runtime.h"

#include <cstddef>

namespace ptq::cuda {

class Scratch {
 public:
  Scratch() = default;
  ~Scratch() { cudaFree(memory_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // At least this much. What was there before is lost when it has to grow; kernels that use it are waited for.
  template <class T>
  T* room(std::size_t count) {
    if (count * sizeof(T) > bytes_) {
      cudaFree(memory_);
      memory_ = nullptr;
      bytes_ = 0;
      cuda_check(cudaMalloc(&memory_, count * sizeof(T)), "allocating work space of a library");
      bytes_ = count * sizeof(T);
    }
    return static_cast<T*>(memory_);
  }

 private:
  void* memory_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace ptq::cuda

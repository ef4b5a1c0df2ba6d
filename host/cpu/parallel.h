// OpenMP loops with three properties that a bare pragma lacks: the number of threads is an argument, exceptions
// reach the caller, and library calls inside the loop are single-threaded (so results do not depend on threads).
#pragma once

#include "host/error.h"

#include <omp.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <memory>

namespace ptq {

// While it lives, library calls of this thread use one thread.
class SingleThreaded {
 public:
  SingleThreaded() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~SingleThreaded() { omp_set_num_threads(before_); }
  SingleThreaded(const SingleThreaded&) = delete;
  SingleThreaded& operator=(const SingleThreaded&) = delete;

 private:
  int before_;
};

// f(i) for i in [0, n), handed out one at a time in increasing order.
template <class F>
void parallel_for(int threads, std::int64_t n, F&& f) {
  if (threads <= 1 || n <= 1) {
    const SingleThreaded single;
    for (std::int64_t i = 0; i < n; ++i) f(i);
    return;
  }
  std::exception_ptr error;
#pragma omp parallel num_threads(threads)  // always the full team: libgomp ends threads when a team shrinks
  {
    const SingleThreaded single;
#pragma omp for schedule(dynamic, 1)
    for (std::int64_t i = 0; i < n; ++i) {
      try {
        f(i);
      } catch (...) {
#pragma omp critical(ptq_parallel_error)
        if (!error) error = std::current_exception();
      }
    }
  }
  if (error) std::rethrow_exception(error);
}

// f(begin, end) over [0, n) in pieces of at least `grain`, for memory-bound loops. Pieces do not depend on threads.
template <class F>
void parallel_ranges(int threads, std::int64_t n, std::int64_t grain, F&& f) {
  const std::int64_t pieces = (n + grain - 1) / grain;
  if (pieces <= 1) {
    if (n > 0) f(std::int64_t{0}, n);
    return;
  }
  parallel_for(threads, pieces, [&](std::int64_t i) { f(i * grain, std::min(n, (i + 1) * grain)); });
}

// Uninitialised 64-byte aligned memory. Exit 75 if there is not enough.
template <class T>
class Buffer {
 public:
  explicit Buffer(std::size_t n = 0) { resize(n); }

  // Contents are lost when it grows.
  void resize(std::size_t n) {
    if (n <= size_) return;
    data_.reset();
    data_.reset(static_cast<T*>(std::aligned_alloc(64, (n * sizeof(T) + 63) / 64 * 64)));
    if (!data_) {
      size_ = 0;
      fail(Exit::again, "out of memory: {} bytes of working memory", n * sizeof(T));
    }
    size_ = n;
  }
  T* data() const { return data_.get(); }
  std::size_t size() const { return size_; }
  T& operator[](std::int64_t i) const { return data_.get()[i]; }

 private:
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T, Free> data_;
  std::size_t size_ = 0;
};

// This thread's scratch memory number `slot`, at least n elements; valid until the same slot is asked for again.
template <class T>
T* scratch(int slot, std::size_t n) {
  static thread_local Buffer<T> buffers[4];
  buffers[slot].resize(n);
  return buffers[slot].data();
}

}  // namespace ptq

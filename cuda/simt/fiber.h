// A fiber over Boost.Context that runs a function again and again. AddressSanitizer is told of its stack.
#pragma once

#include <boost/context/fiber.hpp>

#include <functional>
#include <utility>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

namespace simt {

class Fiber {
 public:
  // Thrown out of suspend() when the fiber is destroyed while it waits; the body must let it pass.
  struct Cancelled {};

  // Fibers that run together should have different numbers. The body throws nothing but Cancelled.
  Fiber(std::size_t number, std::function<void()> body);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  void resume();   // from outside: runs it until it suspends or its body ends
  void suspend();  // from inside

 private:
  struct Stack {
    const void* bottom = nullptr;
    std::size_t size = 0;
    void* fake = nullptr;  // AddressSanitizer's, while somebody else runs
  };
  // Around every switch: leave before it on the stack `from` (null: for ever), arrive after it on the stack `on`, which
  // learns where the other lies.
  static void leave([[maybe_unused]] Stack* from, [[maybe_unused]] const Stack& to) {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(from == nullptr ? nullptr : &from->fake, to.bottom, to.size);
#endif
  }
  static void arrive([[maybe_unused]] const Stack& on, [[maybe_unused]] Stack& other) {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(on.fake, &other.bottom, &other.size);
#endif
  }

  std::function<void()> body_;
  bool cancelled_ = false;
  boost::context::fiber inside_, outside_;
  Stack own_, callers_;
};

// Inline: a return through a frame from before a switch is mispredicted, so every level of calls costs.
inline void Fiber::resume() {
  leave(&callers_, own_);
  inside_ = std::move(inside_).resume();
  arrive(callers_, own_);
}

inline void Fiber::suspend() {
  leave(&own_, callers_);
  outside_ = std::move(outside_).resume();
  arrive(own_, callers_);
  if (cancelled_) throw Cancelled{};
}

}  // namespace simt

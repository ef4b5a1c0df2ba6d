#include "cuda/simt/fiber.h"

#include <boost/context/protected_fixedsize_stack.hpp>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

namespace simt {

namespace {

constexpr std::size_t stack_bytes = 256 * 1024;  // address space; pages are used as they are touched

// A stack with a guard page, so that overflow is a fault. Remembers where it lies, for the sanitizer. Begins a little
// below the end: stacks that all begin at the end of a page would compete for the same sets of the cache.
struct StackAllocator {
  boost::context::protected_fixedsize_stack pages;
  std::size_t shift;
  const void** bottom;
  std::size_t* size;

  boost::context::stack_context allocate() {
    auto context = pages.allocate();
    context.sp = static_cast<char*>(context.sp) - shift;
    context.size -= shift;
    *bottom = static_cast<const char*>(context.sp) - context.size;
    *size = context.size;
    return context;
  }
  void deallocate(boost::context::stack_context& context) {
    context.sp = static_cast<char*>(context.sp) + shift;
    context.size += shift;
#ifdef __SANITIZE_ADDRESS__
    ASAN_UNPOISON_MEMORY_REGION(static_cast<char*>(context.sp) - context.size, context.size);  // of frames never left
#endif
    pages.deallocate(context);
  }
};

}  // namespace

Fiber::Fiber(std::size_t number, std::function<void()> body) : body_(std::move(body)) {
  inside_ = boost::context::fiber(std::allocator_arg,
                                  StackAllocator{boost::context::protected_fixedsize_stack(stack_bytes),
                                                 number % 64 * 64, &own_.bottom, &own_.size},
                                  [this](boost::context::fiber&& caller) {
                                    outside_ = std::move(caller);
                                    arrive(own_, callers_);
                                    try {
                                      suspend();
                                      for (;;) {
                                        body_();
                                        suspend();
                                      }
                                    } catch (const Cancelled&) {
                                    }
                                    leave(nullptr, callers_);
                                    return std::move(outside_);
                                  });
  resume();  // to the first suspend: a fiber that has begun can be ended like any other
}

Fiber::~Fiber() {
  cancelled_ = true;
  resume();
}

}  // namespace simt

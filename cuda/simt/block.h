// One block of a grid: its threads as fibers, its shared memory, its barriers, and the scheduler.
#pragma once

#include "cuda/simt/executor.h"
#include "cuda/simt/fiber.h"

#include <array>
#include <cstdlib>
#include <exception>
#include <memory>
#include <random>
#include <vector>

namespace simt {

struct BlockSpec {
  const char* kernel;
  Extent threads;
  std::size_t shared_bytes;
  Schedule schedule;
  std::uint64_t number;  // of the block in the grid
  const std::function<void()>* thread;
};

class Block {
 public:
  // Returns when all threads have ended. After an Error threads are stuck in the middle of the kernel: destroy it.
  void run(const BlockSpec& spec);

  // --- called by the thread that runs ---
  static bool in_kernel();
  static Block& current();
  unsigned char* shared() const { return shared_.get(); }
  int lane() const { return running_ % warp_size; }
  void expect_shared(const char* instruction, const void* address, std::size_t bytes, std::size_t aligned = 16) const;
  bool barrier(const char* name, bool predicate, const std::source_location& at);  // the or of all predicates
  void collective(const char* name, unsigned mask, Collective meaning, void* argument, const std::source_location& at);
  void async_copy(void* to, const void* from, int bytes, int size);
  void async_commit();
  void async_wait(int groups_left);
  [[noreturn]] void fault(const std::string& what) const;  // of this thread

 private:
  struct Copy {  // a cp.async under way
    int group;
    unsigned char* to;
    const void* from;
    std::size_t bytes, size;
    std::array<unsigned char, 16> data;  // as it was when the copy began
  };
  struct Thread {
    enum class State : std::uint8_t { ready, at_barrier, at_collective, ended } state = State::ready;
    unsigned mask = 0;  // what it waits for and where; mask, meaning and argument of a collective
    const char* name = nullptr;
    std::source_location at;
    Collective meaning = nullptr;
    void* argument = nullptr;
    Index index;                  // threadIdx
    int groups = 0;               // of cp.async, committed
    std::vector<Copy> under_way;  // oldest first
    std::unique_ptr<Fiber> fiber;
  };

  void begin(const BlockSpec& spec);
  void run_thread(int thread);  // the whole of it, in its fiber
  bool run_warp(int warp);      // until all of its lanes wait; whether any ran
  void release_barrier();
  [[noreturn]] void stuck() const;
  std::string place(int thread) const;
  template <class F>
  void take_turns(std::vector<int>& turns, int first, int count, F&& f);

  BlockSpec spec_{};
  std::vector<Thread> threads_;
  std::vector<unsigned> at_collective_;       // lanes of each warp
  std::vector<int> warp_turns_, lane_turns_;  // in the order of this turn
  struct Free {
    void operator()(unsigned char* p) const { std::free(p); }
  };
  std::unique_ptr<unsigned char, Free> shared_;
  int running_ = 0, count_ = 0, ended_ = 0, at_barrier_ = 0;
  bool predicate_ = false, result_ = false;  // of the barrier being gathered, of the last one
  std::exception_ptr error_;                 // thrown by a thread
  std::mt19937_64 random_;
};

}  // namespace simt

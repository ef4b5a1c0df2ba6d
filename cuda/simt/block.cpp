#include "cuda/simt/block.h"

#include "host/error.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <numeric>

namespace simt {

namespace {

constexpr unsigned char poison = 0xff;  // NaN in every floating format, -1 in integers
thread_local constinit Block* current_block = nullptr;

bool same(const std::source_location& a, const std::source_location& b) {
  return a.line() == b.line() && a.column() == b.column() &&
         (a.file_name() == b.file_name() || std::strcmp(a.file_name(), b.file_name()) == 0);
}

std::string text(const Index& i) { return fmt::format("({},{},{})", i.x, i.y, i.z); }

}  // namespace

bool Block::in_kernel() { return current_block != nullptr; }

Block& Block::current() {
  ptq::check(in_kernel(), "simt: a device function was called outside of a kernel");
  return *current_block;
}

void Block::fault(const std::string& what) const {
  const Thread& self = threads_[static_cast<std::size_t>(running_)];
  ptq::fail(ptq::Exit::internal, "simt: {}, block {}, thread {}: {}", spec_.kernel, text(blockIdx), text(self.index),
            what);
}

// --- the scheduler ---------------------------------------------------------------------------------------------------

// f(first) .. f(first + count - 1) in the order of the schedule; `turns` is working memory.
template <class F>
void Block::take_turns(std::vector<int>& turns, int first, int count, F&& f) {
  switch (spec_.schedule.order) {
    case Schedule::Order::forward:
      for (int i = first; i < first + count; ++i) f(i);
      break;
    case Schedule::Order::reverse:
      for (int i = first + count; i-- > first;) f(i);
      break;
    case Schedule::Order::random:
      turns.resize(static_cast<std::size_t>(count));
      std::iota(turns.begin(), turns.end(), first);
      std::shuffle(turns.begin(), turns.end(), random_);
      for (int turn : turns) f(turn);
      break;
  }
}

void Block::begin(const BlockSpec& spec) {
  spec_ = spec;
  count_ = static_cast<int>(spec.threads.count());
  ended_ = at_barrier_ = 0;
  predicate_ = false;
  if (spec.schedule.order == Schedule::Order::random) {
    random_.seed(spec.schedule.seed * 0x9e3779b97f4a7c15u + spec.number);
  }
  // Exactly so large, so that AddressSanitizer sees every access beyond it; aligned as dynamic_smem promises.
  void* memory = nullptr;
  ptq::require(posix_memalign(&memory, 128, std::max<std::size_t>(spec.shared_bytes, 1)) == 0, ptq::Exit::again,
               "simt: out of memory");
  shared_.reset(static_cast<unsigned char*>(memory));
  std::memset(shared_.get(), poison, spec.shared_bytes);
  const auto count = static_cast<std::size_t>(count_);
  at_collective_.assign((count + warp_size - 1) / warp_size, 0);
  if (threads_.size() < count) threads_.resize(count);
  Index index;
  for (int t = 0; t < count_; ++t) {
    Thread& thread = threads_[static_cast<std::size_t>(t)];
    thread.state = Thread::State::ready;
    thread.groups = 0;
    thread.index = index;
    if (++index.x == spec.threads.x) {
      index.x = 0;
      if (++index.y == spec.threads.y) index.y = 0, ++index.z;
    }
    if (!thread.fiber) {
      thread.fiber = std::make_unique<Fiber>(t, [this, t] { run_thread(t); });
    }
  }
}

void Block::run(const BlockSpec& spec) {
  begin(spec);
  current_block = this;
  const struct Leave {
    ~Leave() { current_block = nullptr; }
  } leave;
  while (ended_ < count_) {
    bool progress = false;
    take_turns(warp_turns_, 0, static_cast<int>(at_collective_.size()), [&](int warp) { progress |= run_warp(warp); });
    if (error_) std::rethrow_exception(error_);
    // Ended threads are not waited for, as on Volta and later.
    if (at_barrier_ > 0 && at_barrier_ == count_ - ended_) {
      release_barrier();
    } else if (!progress) {
      stuck();
    }
  }
}

bool Block::run_warp(int warp) {
  const int first = warp * warp_size, lanes = std::min(warp_size, count_ - first);
  bool any = false;
  for (bool again = true; again && !error_;) {
    again = false;
    take_turns(lane_turns_, first, lanes, [&](int t) {
      Thread& thread = threads_[static_cast<std::size_t>(t)];
      if (thread.state != Thread::State::ready || error_) return;
      running_ = t;
      threadIdx = thread.index;
      thread.fiber->resume();
      any = again = true;
    });
  }
  return any;
}

void Block::run_thread(int thread) {
  Thread& self = threads_[static_cast<std::size_t>(thread)];
  try {
    (*spec_.thread)();
    if (!self.under_way.empty()) {
      fault(fmt::format("ends without having waited for {} cp.async copies", self.under_way.size()));
    }
  } catch (const Fiber::Cancelled&) {
    throw;
  } catch (...) {
    error_ = std::current_exception();
  }
  self.state = Thread::State::ended;
  ++ended_;
}

// --- waiting ---------------------------------------------------------------------------------------------------------

bool Block::barrier(const char* name, bool predicate, const std::source_location& at) {
  Thread& self = threads_[static_cast<std::size_t>(running_)];
  predicate_ |= predicate;
  self.name = name;
  self.at = at;
  self.state = Thread::State::at_barrier;
  ++at_barrier_;
  self.fiber->suspend();
  return result_;
}

void Block::release_barrier() {
  const Thread* first = nullptr;
  for (int t = 0; t < count_; ++t) {
    Thread& thread = threads_[static_cast<std::size_t>(t)];
    if (thread.state != Thread::State::at_barrier) continue;
    if (first == nullptr) first = &thread;
    if (!same(first->at, thread.at)) stuck();
  }
  for (int t = 0; t < count_; ++t) {
    Thread& thread = threads_[static_cast<std::size_t>(t)];
    if (thread.state == Thread::State::at_barrier) thread.state = Thread::State::ready;
  }
  result_ = std::exchange(predicate_, false);
  at_barrier_ = 0;
}

void Block::collective(const char* name, unsigned mask, Collective meaning, void* argument,
                       const std::source_location& at) {
  const int me = running_ % warp_size;
  Thread* const lanes = &threads_[static_cast<std::size_t>(running_ - me)];
  Thread& self = lanes[me];
  unsigned& waiting = at_collective_[static_cast<std::size_t>(running_ / warp_size)];
  self.name = name;
  self.at = at;
  self.mask = mask;
  self.meaning = meaning;
  self.argument = argument;
  self.state = Thread::State::at_collective;
  if ((mask >> me & 1u) == 0) fault(fmt::format("{}, which leaves out its own lane", place(running_)));
  waiting |= 1u << me;
  bool complete = (waiting & mask) == mask;
  void* arguments[warp_size] = {};
  for (unsigned left = mask; complete && left != 0; left &= left - 1) {
    const int l = std::countr_zero(left);
    complete = lanes[l].mask == mask && lanes[l].meaning == meaning && same(lanes[l].at, at);
    arguments[l] = lanes[l].argument;
  }
  if (!complete) return self.fiber->suspend();  // whoever comes last acts for all
  meaning(arguments);
  for (unsigned left = mask; left != 0; left &= left - 1) lanes[std::countr_zero(left)].state = Thread::State::ready;
  waiting &= ~mask;
}

// "__shfl_xor_sync (block.cuh:20) with mask 0x0000ffff"
std::string Block::place(int thread) const {
  const Thread& t = threads_[static_cast<std::size_t>(thread)];
  const std::string_view file = t.at.file_name();
  std::string where = fmt::format("{} ({}:{})", t.name, file.substr(file.rfind('/') + 1), t.at.line());
  if (t.state == Thread::State::at_collective) where += fmt::format(" with mask {:#010x}", t.mask);
  return where;
}

// Nobody can go on. If lanes wait for each other, the first of them tells why; else barriers diverge.
void Block::stuck() const {
  std::map<std::string, int> barriers;
  for (int t = 0; t < count_; ++t) {
    const Thread& self = threads_[static_cast<std::size_t>(t)];
    if (self.state == Thread::State::at_barrier) ++barriers[place(t)];
    if (self.state != Thread::State::at_collective) continue;
    for (int l = 0; l < warp_size; ++l) {
      if ((self.mask >> l & 1u) == 0) continue;
      const int other = t / warp_size * warp_size + l;
      const Thread* that = other < count_ ? &threads_[static_cast<std::size_t>(other)] : nullptr;
      std::string why;
      if (that == nullptr) {
        why = "which does not exist";
      } else if (that->state == Thread::State::ended) {
        why = "which has ended";
      } else if (that->state == Thread::State::at_barrier || that->mask != self.mask || that->meaning != self.meaning ||
                 !same(that->at, self.at)) {
        why = "which waits at " + place(other);
      } else {
        continue;
      }
      ptq::fail(ptq::Exit::internal, "simt: {}, block {}: thread {} waits at {} for lane {}, {}", spec_.kernel,
                text(blockIdx), text(self.index), place(t), l, why);
    }
  }
  std::string list;
  for (const auto& [where, threads] : barriers) {
    list += fmt::format("{}{} threads wait at {}", list.empty() ? "" : ", ", threads, where);
  }
  ptq::fail(ptq::Exit::internal, "simt: {}, block {}: barriers diverge: {}", spec_.kernel, text(blockIdx), list);
}

// --- shared memory and cp.async --------------------------------------------------------------------------------------

void Block::expect_shared(const char* instruction, const void* address, std::size_t bytes, std::size_t aligned) const {
  const auto at = reinterpret_cast<std::uintptr_t>(address), begin = reinterpret_cast<std::uintptr_t>(shared_.get());
  if (at % aligned != 0) {
    fault(fmt::format("{} at a shared address that is not a multiple of {}", instruction, aligned));
  }
  if (at < begin || at + bytes > begin + spec_.shared_bytes) {
    fault(fmt::format("{} at byte {} of {} bytes of shared memory", instruction, static_cast<std::int64_t>(at - begin),
                      spec_.shared_bytes));
  }
}

void Block::async_copy(void* to, const void* from, int bytes, int size) {
  Thread& self = threads_[static_cast<std::size_t>(running_)];
  const auto n = static_cast<std::size_t>(size);
  expect_shared("cp.async", to, n, n);
  if (reinterpret_cast<std::uintptr_t>(from) % n != 0) {
    fault(fmt::format("cp.async from an address that is not a multiple of {}", size));
  }
  if (bytes < 0 || bytes > size) fault(fmt::format("cp.async of {} bytes", bytes));
  Copy copy{self.groups, static_cast<unsigned char*>(to), from, static_cast<std::size_t>(bytes), n, {}};
  if (bytes > 0) std::memcpy(copy.data.data(), from, copy.bytes);
  std::memset(to, poison, n);  // whoever reads before waiting sees this
  self.under_way.push_back(copy);
}

void Block::async_commit() { ++threads_[static_cast<std::size_t>(running_)].groups; }

// Copies are made as late as allowed. What a GPU may do at any time before, must not have made a difference.
void Block::async_wait(int groups_left) {
  Thread& self = threads_[static_cast<std::size_t>(running_)];
  auto done = self.under_way.begin();
  for (; done != self.under_way.end() && done->group < self.groups - groups_left; ++done) {
    if (done->bytes > 0 && std::memcmp(done->from, done->data.data(), done->bytes) != 0) {
      fault("the source of a cp.async was written before it was waited for");
    }
    if (std::any_of(done->to, done->to + done->size, [](unsigned char byte) { return byte != poison; })) {
      fault("the destination of a cp.async was written before it was waited for");
    }
    std::memcpy(done->to, done->data.data(), done->size);
  }
  self.under_way.erase(self.under_way.begin(), done);
}

// --- what running threads call ---------------------------------------------------------------------------------------

unsigned char* shared_memory() { return Block::current().shared(); }
int lane() { return Block::current().lane(); }
void expect_shared(const char* instruction, const void* address, std::size_t bytes) {
  Block::current().expect_shared(instruction, address, bytes);
}
void block_barrier(const std::source_location& at) { Block::current().barrier("__syncthreads", false, at); }
bool block_barrier_or(bool predicate, const std::source_location& at) {
  return Block::current().barrier("__syncthreads_or", predicate, at);
}
void warp_collective(const char* name, unsigned mask, Collective meaning, void* argument,
                     const std::source_location& at) {
  Block::current().collective(name, mask, meaning, argument, at);
}
void async_copy(void* to, const void* from, int bytes, int size) { Block::current().async_copy(to, from, bytes, size); }
void async_commit() { Block::current().async_commit(); }
void async_wait(int groups_left) { Block::current().async_wait(groups_left); }

}  // namespace simt

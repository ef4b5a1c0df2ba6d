#include "cuda/simt/executor.h"

#include "cuda/simt/block.h"
#include "host/cpu/parallel.h"
#include "host/error.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdlib>
#include <numeric>

namespace simt {

using ptq::Exit;

namespace {

Schedule initial_schedule() {
  const char* text = std::getenv("PTQ_SIMT_ORDER");
  return text == nullptr || *text == '\0' ? Schedule{} : parse_schedule(text);
}

Schedule& schedule() {
  static Schedule s = initial_schedule();
  return s;
}

int workers = 1;

Index index_of(std::uint64_t i, Extent e) {
  return {static_cast<unsigned>(i % e.x), static_cast<unsigned>(i / e.x % e.y), static_cast<unsigned>(i / e.x / e.y)};
}

// The block that takes turn `turn`. Random: an affine permutation, whose step has no divisor in common with the number
// of blocks.
std::uint64_t block_of_turn(std::uint64_t turn, std::uint64_t blocks, const Schedule& s) {
  if (s.order == Schedule::Order::forward) return turn;
  if (s.order == Schedule::Order::reverse) return blocks - 1 - turn;
  std::uint64_t step = (s.seed * 0x9e3779b97f4a7c15u >> 33) % blocks | 1;
  while (std::gcd(step, blocks) != 1) ++step;
  return (turn % blocks * step + s.seed) % blocks;
}

}  // namespace

Schedule parse_schedule(const std::string& text) {
  if (text == "forward") return {};
  if (text == "reverse") return {Schedule::Order::reverse, 0};
  constexpr std::string_view random = "random:";
  Schedule s{Schedule::Order::random, 0};
  const char *begin = text.data() + std::min(random.size(), text.size()), *end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(begin, end, s.seed);
  ptq::require(text.starts_with(random) && error == std::errc{} && stopped == end, Exit::usage,
               "PTQ_SIMT_ORDER={}: expected forward, reverse or random:SEED", text);
  return s;
}

void set_schedule(Schedule s) { schedule() = s; }

// A block of 1024 threads has 2048 memory mappings (stack and guard page), and Linux allows a process 65530.
void set_workers(int threads) { workers = std::clamp(threads, 1, 16); }

void run_grid(const char* name, Extent grid, Extent block, std::size_t shared_bytes,
              const std::function<void()>& thread) {
  ptq::check(!Block::in_kernel(), "simt: {} is launched by a kernel", name);
  ptq::check(grid.count() >= 1 && grid.x <= 0x7fffffffu && grid.y <= 65535 && grid.z <= 65535,
             "simt: {} with a grid of ({},{},{}) blocks: allowed are 2147483647, 65535, 65535", name, grid.x, grid.y,
             grid.z);
  ptq::check(block.count() >= 1 && block.count() <= 1024 && block.z <= 64,
             "simt: {} with blocks of ({},{},{}) threads: allowed are 1024 together and 64 in z", name, block.x,
             block.y, block.z);
  ptq::check(shared_bytes <= most_shared, "simt: {} with {} bytes of shared memory: allowed are {}", name, shared_bytes,
             most_shared);
  const std::uint64_t blocks = grid.count();
  const Schedule order = schedule();
  std::atomic<bool> failed = false;  // then the other blocks need not run
  ptq::parallel_for(workers, static_cast<std::int64_t>(blocks), [&](std::int64_t turn) {
    if (failed) return;
    static thread_local std::unique_ptr<Block> worker;  // keeps its fibers from launch to launch
    if (!worker) worker = std::make_unique<Block>();
    const std::uint64_t number = block_of_turn(static_cast<std::uint64_t>(turn), blocks, order);
    blockIdx = index_of(number, grid);
    gridDim = grid;
    blockDim = block;
    try {
      worker->run({name, block, shared_bytes, order, number, &thread});
    } catch (...) {
      failed = true;
      worker.reset();  // its fibers are stuck in the middle of a kernel
      throw;
    }
  });
}

}  // namespace simt

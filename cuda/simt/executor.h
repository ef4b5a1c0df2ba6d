// The SIMT executor: runs CUDA kernels on the CPU, every thread of a block as a fiber (docs/simt.md). Blocks are
// distributed over worker threads; the threads of a block run one at a time, each until it waits, in an order that can
// be chosen. What would be undefined behaviour on a GPU ends in an Error (exit 70) that says which threads wait where.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>
#include <string>

namespace simt {

inline constexpr int warp_size = 32;
inline constexpr std::size_t most_shared = 99 * 1024;  // of a block on sm_89, which has the least of sm_80 and later

struct Index {
  unsigned x = 0, y = 0, z = 0;
};
struct Extent {
  unsigned x = 1, y = 1, z = 1;
  constexpr Extent(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
  constexpr std::uint64_t count() const { return std::uint64_t{x} * y * z; }
};

// The order in which the threads of a warp, the warps of a block and the blocks of a grid take turns. A kernel that
// lacks a barrier gives other results in another order.
struct Schedule {
  enum class Order : std::uint8_t { forward, reverse, random } order = Order::forward;
  std::uint64_t seed = 0;  // of random
};
Schedule parse_schedule(const std::string& text);  // "forward", "reverse", "random:SEED"; else Error (exit 2)
void set_schedule(Schedule schedule);              // at the start that of $PTQ_SIMT_ORDER, or forward
void set_workers(int threads);                     // at the start one; at most 16

// Runs `thread` once per thread of the grid. Shared memory of a block is exactly `shared_bytes`, filled with 0xff.
// Limits are those of CUDA (Programming Guide, "Compute Capabilities").
void run_grid(const char* name, Extent grid, Extent block, std::size_t shared_bytes,
              const std::function<void()>& thread);
// Lists the launch in the file $PTQ_SIMT_LAUNCHES (launch_list.cpp).
void note_launch(const char* name, const void* kernel, Extent block, std::size_t shared_bytes);

// --- called by running threads -------------------------------------------------------------------------------------
unsigned char* shared_memory();
int lane();  // of its warp, 0..31
// Fault unless [address, address + bytes) lies in the block's shared memory and is aligned to 16 bytes.
void expect_shared(const char* instruction, const void* address, std::size_t bytes);

// Wait for all threads of the block that have not ended. They must wait at the same place of the source.
void block_barrier(const std::source_location& at);
bool block_barrier_or(bool predicate, const std::source_location& at);

// The one primitive of a warp: waits until every lane of `mask` has come with the same meaning, mask and place; then
// `meaning` runs once with the lanes' arguments (null outside of the mask), and all go on.
using Collective = void (*)(void* const (&arguments)[warp_size]);
void warp_collective(const char* name, unsigned mask, Collective meaning, void* argument,
                     const std::source_location& at = std::source_location::current());

void expect_width(const char* name, int width);  // of a shuffle: a power of two up to 32
void warp_barrier(unsigned mask, const std::source_location& at);
unsigned ballot(const char* name, unsigned mask, bool predicate, const std::source_location& at);
std::uint64_t shuffle(const char* name, unsigned mask, std::uint64_t bits, int source, const std::source_location& at);

// --- cp.async: a copy happens when it is waited for; until then its destination holds 0xff -------------------------
void async_copy(void* to, const void* from, int bytes, int size);  // the rest of the size (4 or 16) becomes 0
void async_commit();
void async_wait(int groups_left);

}  // namespace simt

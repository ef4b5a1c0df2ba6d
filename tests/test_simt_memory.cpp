// The allocator of the device backend, on the stand-in runtime: what is cached, the cap, and memory that runs out.
#include "cuda/backend/memory.h"
#include "cuda/backend/runtime.h"
#include "cuda/simt/runtime.h"

#include <gtest/gtest.h>

namespace ptq::cuda {
namespace {

constexpr std::size_t MiB = std::size_t{1} << 20;

TEST(SimtMemory, FreedBlocksServeRequestsOfAboutTheirSize) {
  const auto memory = std::make_shared<DeviceMemory>(0, true);
  const void* const first = memory->allocate(1000).get();
  EXPECT_EQ(memory->allocate(600).get(), first);
  EXPECT_NE(memory->allocate(2000).get(), first);
  EXPECT_EQ(memory->in_use(), 0u);
  const auto a = memory->allocate(1000), b = memory->allocate(1000);
  EXPECT_EQ(a.get(), first);
  EXPECT_NE(b.get(), first);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(b.get()) % 256, 0u);
  EXPECT_GE(memory->in_use(), 2000u);
  EXPECT_EQ(memory->peak(), memory->in_use());
}

TEST(SimtMemory, ACapCountsWhatIsCachedAndTheCacheGivesWay) {
  const auto memory = std::make_shared<DeviceMemory>(4 * MiB, true);
  { const auto a = memory->allocate(3 * MiB); }
  const auto b = memory->allocate(2 * MiB);  // not beside the cached three
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(memory->in_use(), 2 * MiB);
  EXPECT_EQ(memory->allocate(3 * MiB), nullptr);
  EXPECT_NE(memory->allocate(2 * MiB), nullptr);
  EXPECT_EQ(memory->in_use(), 2 * MiB);
  EXPECT_EQ(memory->peak(), 4 * MiB);
}

TEST(SimtMemory, AFailureEmptiesTheCacheAndTriesOnceMore) {
  const auto memory = std::make_shared<DeviceMemory>(0, true);
  const auto kept = memory->allocate(MiB);
  { const auto cached = memory->allocate(2 * MiB); }
  ::simt::fail_allocation(0);
  const auto a = memory->allocate(3 * MiB);  // fails once, succeeds after the cache is empty
  EXPECT_NE(a, nullptr);
  ::simt::fail_allocation(0);
  EXPECT_EQ(memory->allocate(4 * MiB), nullptr);  // nothing is cached: no second try
  EXPECT_EQ(memory->in_use(), 4 * MiB);
  EXPECT_NE(memory->allocate(4 * MiB), nullptr);
}

TEST(SimtMemory, WithoutACacheEverythingIsGivenBackAtOnce) {
  const auto memory = std::make_shared<DeviceMemory>(1000, false);
  {
    const auto a = memory->allocate(600);
    EXPECT_EQ(memory->in_use(), 600u);
    EXPECT_EQ(memory->allocate(401), nullptr);
    EXPECT_NE(memory->allocate(400), nullptr);
  }
  EXPECT_EQ(memory->in_use(), 0u);
  EXPECT_NE(memory->allocate(1000), nullptr);
}

TEST(SimtMemory, BlocksOutliveTheAllocator) {
  std::shared_ptr<void> block;
  {
    const auto memory = std::make_shared<DeviceMemory>(0, true);
    block = memory->allocate(10);
  }
  static_cast<char*>(block.get())[9] = 1;
}

}  // namespace
}  // namespace ptq::cuda

// The SIMT executor: what it runs means what CUDA defines, in every order of threads.
#include "simt_kernels.h"

#include <set>

namespace ptq::cuda {
namespace {

PTQ_IN_ALL_ORDERS;

// --- threads, blocks and grids ---------------------------------------------------------------------------------------

TEST_P(Simt, EveryThreadOfEveryBlockRunsOnceWithItsIndices) {
  const dim3 grid(3, 2, 5), block(5, 7, 3);
  for (int workers : {1, 4}) {
    ::simt::set_workers(workers);
    std::vector<int> seen(grid.count() * block.count());
    run(
        {.grid = grid, .block = block},
        [](int* times) {
          const unsigned b = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
          const unsigned t = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
          atomicAdd(&times[b * blockDim.x * blockDim.y * blockDim.z + t], 1);
        },
        seen.data());
    EXPECT_EQ(std::accumulate(seen.begin(), seen.end(), 0), static_cast<int>(seen.size()));
    EXPECT_EQ(std::set<int>(seen.begin(), seen.end()), std::set<int>{1});
  }
}

TEST_P(Simt, IndicesSurviveWaiting) {
  std::vector<int> results(4 * 96);
  run(
      {.grid = 4, .block = dim3(3, 32)},
      [](int* out) {
        const unsigned t = threadIdx.y * 3 + threadIdx.x;
        __syncthreads();  // everybody else runs
        __syncwarp();
        out[blockIdx.x * 96 + threadIdx.y * 3 + threadIdx.x] = static_cast<int>(t);
      },
      results.data());
  for (int i = 0; i < 4 * 96; ++i) ASSERT_EQ(results[static_cast<std::size_t>(i)], i % 96);
}

TEST_P(Simt, AnEmptyGridLaunchesNothing) {
  run({.grid = 0, .block = 32}, [] { FAIL(); });
  run({.grid = dim3(1, 0), .block = 32}, [] { FAIL(); });
}

TEST(SimtOrder, IsTheOneChosen) {
  const auto order = [](Schedule s) {
    ::simt::set_schedule(s);
    std::vector<int> all;
    run(
        {.grid = 3, .block = 64},
        [](std::vector<int>* list) { list->push_back(static_cast<int>(blockIdx.x * 64 + threadIdx.x)); }, &all);
    ::simt::set_schedule({});
    return all;
  };
  std::vector<int> ascending(3 * 64);
  std::iota(ascending.begin(), ascending.end(), 0);
  EXPECT_EQ(order({Order::forward, 0}), ascending);
  EXPECT_EQ(order({Order::reverse, 0}), std::vector<int>(ascending.rbegin(), ascending.rend()));
  std::vector<int> random = order({Order::random, 7});
  EXPECT_EQ(random, order({Order::random, 7}));
  EXPECT_NE(random, order({Order::random, 8}));
  EXPECT_NE(random, ascending);
  std::sort(random.begin(), random.end());
  EXPECT_EQ(random, ascending);
}

TEST(SimtOrder, IsParsed) {
  using ::simt::parse_schedule;
  EXPECT_EQ(parse_schedule("forward").order, Order::forward);
  EXPECT_EQ(parse_schedule("reverse").order, Order::reverse);
  EXPECT_EQ(parse_schedule("random:12").order, Order::random);
  EXPECT_EQ(parse_schedule("random:12").seed, 12u);
  for (const char* bad : {"", "backward", "random", "random:", "random:x", "random:1x", "random:-1", "andom:1"}) {
    expect_error(Exit::usage, "expected forward, reverse or random:SEED", [&] { parse_schedule(bad); });
  }
}

// --- barriers --------------------------------------------------------------------------------------------------------

TEST_P(Simt, WritesBeforeABarrierAreSeenAfterIt) {
  std::vector<int> results(200);
  run(
      {.block = 200, .smem = 200 * sizeof(int)},
      [](int* out) {
        int* shared = dynamic_smem<int>();
        const auto t = static_cast<int>(threadIdx.x);
        for (int round = 0; round < 3; ++round) {
          shared[t] = t + round;
          __syncthreads();  // shared is complete
          out[t] = shared[199 - t];
          __syncthreads();  // shared is free
        }
      },
      results.data());
  for (int t = 0; t < 200; ++t) ASSERT_EQ(results[static_cast<std::size_t>(t)], 199 - t + 2);
}

TEST_P(Simt, EndedThreadsAreNotWaitedFor) {
  std::vector<int> results(96);
  run(
      {.block = 96},
      [](int* out) {
        if (threadIdx.x % 3 == 0) return;
        __syncthreads();  // two thirds of every warp
        if (threadIdx.x >= 64) return;
        __syncthreads();  // the last warp is gone
        out[threadIdx.x] = 1;
      },
      results.data());
  for (int t = 0; t < 96; ++t) ASSERT_EQ(results[static_cast<std::size_t>(t)], t % 3 != 0 && t < 64 ? 1 : 0);
}

TEST_P(Simt, BarrierWithOr) {
  std::vector<int> results(2 * 64);
  run(
      {.grid = 2, .block = 64},
      [](int* out) {
        const int some = __syncthreads_or(blockIdx.x == 1 && threadIdx.x == 37);
        const int none = __syncthreads_or(0);
        out[blockIdx.x * 64 + threadIdx.x] = some * 2 + none;
      },
      results.data());
  for (int i = 0; i < 2 * 64; ++i) ASSERT_EQ(results[static_cast<std::size_t>(i)], i < 64 ? 0 : 2);
}

// --- the collectives of a warp ---------------------------------------------------------------------------------------

// The lane that a shuffle reads, from PTX ISA 9.7.9.6: (mode, b, c) with c = clamp | segment mask << 8.
int source_by_ptx(const std::string& mode, int lane, int b, int width) {
  const int clamp = mode == "up" ? 0 : 31, segment = 32 - width;
  const int max_lane = (lane & segment) | (clamp & ~segment), min_lane = lane & segment;
  int j = 0;
  bool inside = false;
  if (mode == "up") j = lane - b, inside = j >= max_lane;
  if (mode == "down") j = lane + b, inside = j <= max_lane;
  if (mode == "bfly") j = lane ^ b, inside = j <= max_lane;
  if (mode == "idx") j = min_lane | (b & ~segment), inside = j <= max_lane;
  return inside ? j : lane;
}

TEST_P(Simt, ShufflesOfEveryWidthReadTheLaneThatPtxSays) {
  for (int width : {1, 2, 4, 8, 16, 32}) {
    for (int b = 0; b < 32; ++b) {
      std::vector<double> results(4 * 32);
      run(
          {.block = 32},
          [](double* out, int distance, int segment) {
            const auto lane = static_cast<int>(threadIdx.x);
            const double value = lane + 0.5;
            double* mine = out + lane * 4;
            mine[0] = __shfl_up_sync(0xffffffffu, value, static_cast<unsigned>(distance), segment);
            mine[1] = __shfl_down_sync(0xffffffffu, value, static_cast<unsigned>(distance), segment);
            mine[2] = __shfl_xor_sync(0xffffffffu, value, distance, segment);
            mine[3] = __shfl_sync(0xffffffffu, value, distance, segment);
          },
          results.data(), b, width);
      const std::string modes[] = {"up", "down", "bfly", "idx"};
      for (int lane = 0; lane < 32; ++lane) {
        for (int m = 0; m < 4; ++m) {
          ASSERT_EQ(results[static_cast<std::size_t>(lane * 4 + m)], source_by_ptx(modes[m], lane, b, width) + 0.5)
              << modes[m] << " lane " << lane << " by " << b << " width " << width;
        }
      }
    }
  }
}

TEST_P(Simt, ShufflesCarryEveryType) {
  int threads = 0;
  run(
      {.block = 64},
      [](int* equal) {
        const auto lane = static_cast<int>(threadIdx.x % 32);
        const bool same = __shfl_sync(0xffffffffu, -lane, 5) == -5 &&
                          __shfl_sync(0xffffffffu, static_cast<unsigned>(lane) << 28, 9) == 9u << 28 &&
                          __shfl_sync(0xffffffffu, 0.25f * static_cast<float>(lane), 31) == 7.75f &&
                          __shfl_sync(0xffffffffu, -0.125 * lane, 3) == -0.375 &&
                          __shfl_sync(0xffffffffu, std::int64_t{lane} << 40, 2) == std::int64_t{2} << 40;
        atomicAdd(equal, same ? 1 : 0);
      },
      &threads);
  EXPECT_EQ(threads, 64);
}

TEST_P(Simt, VotesOverPartialMasks) {
  std::vector<unsigned> results(32 * 4);
  run(
      {.block = 32},
      [](unsigned* out) {
        const unsigned lane = threadIdx.x, mask = lane % 2 == 0 ? 0x55555555u : 0xaaaaaaaau;
        out[lane * 4 + 0] = __ballot_sync(mask, lane >= 10);
        out[lane * 4 + 1] = static_cast<unsigned>(__any_sync(mask, lane == 13));
        out[lane * 4 + 2] = static_cast<unsigned>(__all_sync(mask, lane != 13));
        out[lane * 4 + 3] = __shfl_xor_sync(mask, lane, 2);
      },
      results.data());
  for (unsigned lane = 0; lane < 32; ++lane) {
    const unsigned* mine = &results[lane * 4];
    ASSERT_EQ(mine[0], 0xfffffc00u & (lane % 2 == 0 ? 0x55555555u : 0xaaaaaaaau));
    ASSERT_EQ(mine[1], lane % 2);
    ASSERT_EQ(mine[2], 1 - lane % 2);
    ASSERT_EQ(mine[3], lane ^ 2u);
  }
}

TEST_P(Simt, APartialWarpNamesItsLanes) {
  std::vector<int> results(40);
  run(
      {.block = 40},
      [](int* out) {
        const unsigned mask = threadIdx.x < 32 ? 0xffffffffu : 0x000000ffu;
        int sum = 1;
        for (int step = threadIdx.x < 32 ? 16 : 4; step > 0; step /= 2) sum += __shfl_xor_sync(mask, sum, step);
        out[threadIdx.x] = sum;
      },
      results.data());
  for (int t = 0; t < 40; ++t) ASSERT_EQ(results[static_cast<std::size_t>(t)], t < 32 ? 32 : 8);
}

// Lanes may wait for different others one after the other.
TEST_P(Simt, MasksThatOverlap) {
  std::vector<int> results(3);
  run(
      {.block = 3},
      [](int* out) {
        const auto lane = static_cast<int>(threadIdx.x);
        int x = lane;
        if (lane != 0) x += __shfl_xor_sync(0b110u, x, 3);  // 1 and 2
        if (lane != 2) x += __shfl_xor_sync(0b011u, x, 1);  // then 0 and 1
        out[lane] = x;
      },
      results.data());
  EXPECT_EQ(results, (std::vector<int>{3, 3, 3}));
}

// --- memory ----------------------------------------------------------------------------------------------------------

TEST_P(Simt, SharedMemoryIsPoisonedInEveryBlockAndAligned) {
  int wrong = 0;
  run(
      {.grid = 3, .block = 1, .smem = 777},
      [](int* bad) {
        auto* bytes = dynamic_smem<unsigned char>();
        for (int i = 0; i < 777; ++i) *bad += bytes[i] != 0xff;
        *bad += reinterpret_cast<std::uintptr_t>(bytes) % 128 != 0;
        std::memset(bytes, 0, 777);  // must not reach the next block
      },
      &wrong);
  EXPECT_EQ(wrong, 0);
}

TEST_P(Simt, AtomicsOfManyBlocksOnSeveralWorkers) {
  ::simt::set_workers(4);
  int count = 0;
  unsigned most = 0;
  run(
      {.grid = 300, .block = 64},
      [](int* threads, unsigned* last) {
        atomicAdd(threads, 1);
        __syncthreads();  // fibers of several workers at the same time
        atomicMax(last, blockIdx.x * 64 + threadIdx.x);
      },
      &count, &most);
  EXPECT_EQ(count, 300 * 64);
  EXPECT_EQ(most, 300u * 64 - 1);
}

TEST(SimtIntrinsics, RoundToInt) {
  EXPECT_EQ(__float2int_rn(2.5f), 2);
  EXPECT_EQ(__float2int_rn(-3.5f), -4);
  EXPECT_EQ(__float2int_rn(3e9f), 2147483647);
  EXPECT_EQ(__float2int_rn(-3e9f), -2147483647 - 1);
  EXPECT_EQ(__float2int_rn(NAN), 0);
}

TEST_P(Simt, AsyncCopiesArriveWhenTheyAreWaitedFor) {
  const Chunk chunks[2] = {chunk(10), chunk(50)};
  std::vector<int> results(5);
  run(
      {.block = 1, .smem = 2 * sizeof(Chunk)},
      [](int* out, const Chunk* in) {
        auto* shared = dynamic_smem<Chunk>();
        std::memset(shared, 0, 2 * sizeof(Chunk));
        cp_async_16(&shared[0], &in[0]);
        cp_async_commit();
        cp_async_16(&shared[1], &in[1], 6);
        out[0] = shared[0].bytes[3];  // too early
        cp_async_commit();
        cp_async_wait<1>();
        out[1] = shared[0].bytes[3];
        out[2] = shared[1].bytes[5];  // too early
        cp_async_wait<0>();
        out[3] = shared[1].bytes[5];
        out[4] = shared[1].bytes[6];  // beyond the bytes that were asked for
      },
      results.data(), chunks);
  EXPECT_EQ(results, (std::vector<int>{255, 13, 255, 55, 0}));
}

}  // namespace
}  // namespace ptq::cuda

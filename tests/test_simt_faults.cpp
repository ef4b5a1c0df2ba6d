// Each kind of bug that the SIMT executor promises to find is planted here and must be found: in one sentence that
// names the place, in every order of threads; and the next launch must be good.
#include "cuda/simt/runtime.h"
#include "simt_kernels.h"

#include <thread>

namespace ptq::cuda {
namespace {

PTQ_IN_ALL_ORDERS;

// Runs it in every order and expects a fault with this text.
template <class Kernel, class... A>
void expect_fault(std::string_view part, const LaunchSpec& spec, Kernel kernel, A... args) {
  for (const Schedule& s : schedules) {
    ::simt::set_schedule(s);
    expect_error(Exit::internal, part, [&] { run(spec, kernel, args...); });
  }
  ::simt::set_schedule({});
}

// --- barriers --------------------------------------------------------------------------------------------------------

// The reason for the orders: without its barrier this kernel is right in one of them and wrong in others.
TEST(SimtFault, MissingBarrierShowsInAnotherOrder) {
  int wrong_orders = 0;
  for (const Schedule& s : schedules) {
    ::simt::set_schedule(s);
    std::vector<int> results(64);
    run(
        {.block = 64, .smem = 64 * sizeof(int)},
        [](int* out) {
          int* shared = dynamic_smem<int>();
          const auto t = static_cast<int>(threadIdx.x);
          shared[t] = t;
          out[t] = shared[t / 2];
        },
        results.data());
    for (int t = 0; t < 64; ++t) {
      if (results[static_cast<std::size_t>(t)] == t / 2) continue;
      ++wrong_orders;
      break;
    }
  }
  ::simt::set_schedule({});
  EXPECT_EQ(wrong_orders, 3);
}

TEST(SimtFault, DivergentBarriers) {
  const auto kernel = [] {
    if (threadIdx.x < 16) {
      __syncthreads();  // one place
    } else {
      __syncthreads();  // another
    }
  };
  expect_fault("simt: planted, block (0,0,0): barriers diverge: ", {.block = 64}, kernel);
  expect_fault("16 threads wait at __syncthreads (test_simt_faults.cpp:", {.block = 64}, kernel);
  expect_fault("48 threads wait at __syncthreads (test_simt_faults.cpp:", {.block = 64}, kernel);
}

TEST(SimtFault, BarrierInALoopOfDifferentLengths) {
  expect_fault("barriers diverge", {.block = 32}, [] {
    for (unsigned i = 0; i < threadIdx.x; ++i) __syncthreads();  // in the loop
    __syncthreads();                                             // after it
  });
}

TEST(SimtFault, BarrierAgainstCollective) {
  expect_fault("waits at __ballot_sync (test_simt_faults.cpp:", {.block = 32}, [] {
    if (threadIdx.x < 16) {
      __syncthreads();  // half of the warp
    } else {
      __ballot_sync(0xffffffffu, 1);
    }
  });
  expect_fault("for lane 0, which waits at __syncthreads (test_simt_faults.cpp:", {.block = 32}, [] {
    if (threadIdx.x < 16) __syncthreads();  // half of the warp
    __syncwarp();
  });
}

// --- the collectives of a warp ---------------------------------------------------------------------------------------

TEST(SimtFault, LanesAtDifferentCollectives) {
  expect_fault("which waits at __any_sync (test_simt_faults.cpp:", {.block = 32}, [] {
    if (threadIdx.x == 20) {
      __any_sync(0xffffffffu, 1);
    } else {
      __ballot_sync(0xffffffffu, 1);
    }
  });
  expect_fault("which waits at __shfl_sync (test_simt_faults.cpp:", {.block = 32}, [] {  // the same at two places
    if (threadIdx.x < 16) {
      __shfl_sync(0xffffffffu, 1, 0);
    } else {
      __shfl_sync(0xffffffffu, 1, 0);
    }
  });
}

TEST(SimtFault, LanesWithDifferentMasks) {
  expect_fault(" with mask 0xffffffff for lane 1, which waits at __syncwarp (test_simt_faults.cpp:", {.block = 32},
               [] { __syncwarp(threadIdx.x % 2 == 0 || threadIdx.x == 31 ? 0xffffffffu : 0x7fffffffu); });
}

TEST(SimtFault, LaneOutsideOfItsMask) {
  expect_fault("with mask 0x7fffffff, which leaves out its own lane", {.block = 32}, [] { __syncwarp(0x7fffffffu); });
}

TEST(SimtFault, MaskNamesALaneThatHasEnded) {
  expect_fault("with mask 0xffffffff for lane 30, which has ended", {.block = 64}, [] {
    if (threadIdx.x >= 62) return;
    __shfl_xor_sync(0xffffffffu, 1.0f, 1);
  });
}

TEST(SimtFault, MaskNamesALaneThatDoesNotExist) {
  expect_fault("with mask 0xffffffff for lane 8, which does not exist", {.block = 40}, [] { __syncwarp(); });
}

TEST(SimtFault, ShuffleFromALaneOutsideOfTheMask) {
  expect_fault("__shfl_sync: lane 0 reads lane 16, which the mask leaves out", {.block = 32}, [] {
    if (threadIdx.x < 16) __shfl_sync(0x0000ffffu, 1, 16);
  });
}

TEST(SimtFault, ShuffleWidth) {
  expect_fault("__shfl_xor_sync with width 12: powers of two up to 32 are allowed", {.block = 32},
               [] { __shfl_xor_sync(0xffffffffu, 1, 1, 12); });
  expect_fault("__shfl_sync with width 64", {.block = 32}, [] { __shfl_sync(0xffffffffu, 1, 1, 64); });
}

TEST(SimtFault, TellsTheThread) {
  expect_fault("simt: planted, block (1,0,2), thread (3,1,0): __syncwarp", {.grid = dim3(2, 1, 3), .block = dim3(8, 2)},
               [] {
                 if (blockIdx.x == 1 && blockIdx.z == 2 && threadIdx.x == 3 && threadIdx.y == 1) __syncwarp(1);
               });
}

// --- memory ----------------------------------------------------------------------------------------------------------

TEST(SimtFault, AsyncCopyNeverWaitedFor) {
  static const Chunk in = chunk(0);
  expect_fault("ends without having waited for 1 cp.async copies", {.block = 32, .smem = 32 * sizeof(Chunk)}, [] {
    cp_async_16(dynamic_smem<Chunk>() + threadIdx.x, &in);
    cp_async_commit();
    cp_async_wait<1>();  // should be 0
  });
  expect_fault("ends without having waited for 1 cp.async copies", {.block = 1, .smem = sizeof(Chunk)}, [] {
    cp_async_16(dynamic_smem<Chunk>(), &in);
    cp_async_wait<0>();  // of no group: commit is missing
  });
}

TEST(SimtFault, AsyncCopyFromOrToWrongAddresses) {
  static const Chunk in[2] = {};
  expect_fault("cp.async at a shared address that is not a multiple of 16", {.block = 1, .smem = 64},
               [] { cp_async_16(dynamic_smem<char>() + 8, in); });
  expect_fault("cp.async from an address that is not a multiple of 16", {.block = 1, .smem = 64},
               [] { cp_async_16(dynamic_smem<char>(), in[0].bytes + 8); });
  expect_fault("cp.async at byte 64 of 64 bytes of shared memory", {.block = 1, .smem = 64},
               [] { cp_async_16(dynamic_smem<char>() + 64, in); });
  expect_fault("cp.async of 17 bytes", {.block = 1, .smem = 64}, [] { cp_async_16(dynamic_smem<char>(), in, 17); });
}

TEST(SimtFault, MemoryOfAnAsyncCopyIsWrittenWhileItIsUnderWay) {
  static Chunk in = chunk(0);
  expect_fault("the source of a cp.async was written before it was waited for", {.block = 1, .smem = 16}, [] {
    cp_async_16(dynamic_smem<char>(), &in);
    cp_async_commit();
    ++in.bytes[15];
    cp_async_wait<0>();
  });
  expect_fault("the destination of a cp.async was written before it was waited for", {.block = 1, .smem = 16}, [] {
    cp_async_16(dynamic_smem<char>(), &in);
    cp_async_commit();
    dynamic_smem<char>()[3] = 0;
    cp_async_wait<0>();
  });
}

TEST(SimtFault, LdmatrixBeyondSharedMemory) {
  expect_fault("ldmatrix at byte 496 of 500 bytes of shared memory", {.block = 32, .smem = 500}, [] {
    std::uint32_t registers[4];
    ldmatrix_x4(registers, dynamic_smem<Chunk>() + threadIdx.x);
  });
}

TEST(SimtFault, LimitsOfALaunch) {
  expect_fault("planted with blocks of (1025,1,1) threads", {.block = 1025}, [] {});
  expect_fault("planted with blocks of (32,33,1) threads", {.block = dim3(32, 33)}, [] {});
  expect_fault("planted with blocks of (1,1,65) threads", {.block = dim3(1, 1, 65)}, [] {});
  expect_fault("planted with blocks of (0,1,1) threads", {.block = 0}, [] {});
  expect_fault("planted with a grid of (1,65536,1) blocks", {.grid = dim3(1, 65536)}, [] {});
  expect_fault("planted with 101377 bytes of shared memory: allowed are 101376", {.smem = 99 * 1024 + 1}, [] {});
}

TEST(SimtFault, DeviceFunctionsOutsideOfAKernelAndKernelsInside) {
  expect_error(Exit::internal, "outside of a kernel", [] { __syncthreads(); });  // not in a kernel
  expect_error(Exit::internal, "outside of a kernel", [] { dynamic_smem<float>(); });
  expect_fault("simt: planted is launched by a kernel", {.block = 1}, [] { run({.block = 1}, [] {}); });
}

// --- after an error --------------------------------------------------------------------------------------------------

struct Alive {
  explicit Alive(int* n) : count(n) { ++*count; }
  ~Alive() { --*count; }
  int* count;
};

TEST_P(Simt, StuckThreadsAreUnwoundAndTheNextLaunchIsGood) {
  for (int workers : {1, 3}) {
    ::simt::set_workers(workers);
    int alive = 0, ran = 0;
    for (int round = 0; round < 3; ++round) {
      expect_error(Exit::internal, "barriers diverge", [&] {
        run(
            {.block = 128},
            [](int* count) {
              const Alive object(count);
              std::vector<int> memory(1000);  // the leak sanitizer watches it
              if (threadIdx.x == 100) {
                __syncthreads();  // one place
              } else {
                __syncthreads();  // another
              }
            },
            &alive);
      });
      EXPECT_EQ(alive, 0);
      run(
          {.grid = 5, .block = 128},
          [](int* count) {
            __syncthreads();  // with new fibers
            atomicAdd(count, 1);
          },
          &ran);
    }
    EXPECT_EQ(ran, 3 * 5 * 128);
  }
}

// Fibers belong to a thread of the host and end with it.
TEST_P(Simt, AThreadOfTheHostThatEnds) {
  int ran = 0;
  for (int round = 0; round < 2; ++round) {
    std::thread([&] {
      run(
          {.grid = 2, .block = 64},
          [](int* count) {
            __syncthreads();  // so that fibers are in use
            atomicAdd(count, 1);
          },
          &ran);
    }).join();
  }
  EXPECT_EQ(ran, 2 * 2 * 64);
}

TEST_P(Simt, AnErrorInOneOfManyBlocks) {
  for (int workers : {1, 3}) {
    ::simt::set_workers(workers);
    expect_error(Exit::numerics, "thrown by thread 5 of block 17", [] {
      run({.grid = 40, .block = 64}, [] {
        __syncthreads();  // so that fibers are in use
        if (blockIdx.x == 17 && threadIdx.x == 5) fail(Exit::numerics, "thrown by thread 5 of block 17");
        __syncthreads();  // where the others wait
      });
    });
  }
}

TEST(SimtFault, Allocations) {
  void* memory = nullptr;
  ::simt::fail_allocation(1);
  EXPECT_EQ(cudaMalloc(&memory, 10), cudaSuccess);
  EXPECT_EQ(static_cast<unsigned char*>(memory)[9], 0xff);
  EXPECT_EQ(cudaFree(memory), cudaSuccess);
  EXPECT_EQ(cudaMalloc(&memory, 10), cudaErrorMemoryAllocation);
  EXPECT_EQ(memory, nullptr);
  EXPECT_EQ(cudaMalloc(&memory, 10), cudaSuccess);
  EXPECT_EQ(cudaFree(memory), cudaSuccess);
}

// --- what ends the program -------------------------------------------------------------------------------------------

int deep(volatile char* above, int left) {
  volatile char here[4096];
  here[0] = above[0];
  return left == 0 ? 0 : deep(here, left - 1) + here[0];
}

TEST(SimtDeathTest, StackOverflowOfAThread) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(run({.block = 32},
                   [] {
                     volatile char start[1] = {1};
                     __syncwarp();
                     deep(start, 1000);
                   }),
               "");
}

#ifdef __SANITIZE_ADDRESS__
class SimtAddressDeathTest : public ::testing::Test {
 protected:
  void SetUp() override { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

TEST_F(SimtAddressDeathTest, SharedMemory) {
  const LaunchSpec spec{.block = 64, .smem = 64 * sizeof(float)};
  EXPECT_DEATH(run(spec, [] { dynamic_smem<float>()[threadIdx.x + 1] = 0; }), "heap-buffer-overflow");
  EXPECT_DEATH(run(spec, [] { dynamic_smem<float>()[static_cast<int>(threadIdx.x) - 1] = 0; }), "heap-buffer-overflow");
  EXPECT_DEATH(run({.block = 1, .smem = 5}, [] { dynamic_smem<char>()[5] = 0; }), "heap-buffer-overflow");
  EXPECT_DEATH(run({.block = 1}, [] { dynamic_smem<char>()[1] = 0; }), "heap-buffer-overflow");
}

TEST_F(SimtAddressDeathTest, GlobalMemory) {
  void* memory = nullptr;
  ASSERT_EQ(cudaMalloc(&memory, 65 * sizeof(float)), cudaSuccess);
  const LaunchSpec spec{.grid = 2, .block = 33};
  const auto write = [](float* x) { x[blockIdx.x * blockDim.x + threadIdx.x] = 1; };
  const auto read_late = [](float* x) {
    float y = x[0];
    for (int i = 0; i < 3; ++i) {
      __syncthreads();  // on another stack in between
      y += x[blockIdx.x * blockDim.x + threadIdx.x];
    }
    x[0] = y;
  };
  EXPECT_DEATH(run(spec, write, static_cast<float*>(memory)), "heap-buffer-overflow");
  EXPECT_DEATH(run(spec, read_late, static_cast<float*>(memory)), "heap-buffer-overflow");
  EXPECT_EQ(cudaFree(memory), cudaSuccess);
  EXPECT_DEATH(run(spec, write, static_cast<float*>(memory)), "heap-use-after-free");
}

__attribute__((noinline)) void fill(int* to, int n) {
  for (int i = 0; i < n; ++i) to[i] = i;
}

TEST_F(SimtAddressDeathTest, LocalMemoryOfAThread) {
  const auto kernel = [](int* out, int n) {
    int local[4];
    __syncthreads();  // the sanitizer must know the stack of this fiber
    fill(local, n);
    out[threadIdx.x] = local[n - 1];
  };
  std::vector<int> results(32);
  run({.block = 32}, kernel, results.data(), 4);
  EXPECT_DEATH(run({.block = 32}, kernel, results.data(), 5), "stack-buffer-overflow");
}

TEST_F(SimtAddressDeathTest, SourceOfAnAsyncCopy) {
  void* memory = nullptr;
  ASSERT_EQ(cudaMalloc(&memory, 24), cudaSuccess);
  EXPECT_DEATH(run(
                   {.block = 1, .smem = 32}, [](char* from) { cp_async_16(dynamic_smem<char>(), from + 16); },
                   static_cast<char*>(memory)),
               "heap-buffer-overflow");
  EXPECT_EQ(cudaFree(memory), cudaSuccess);
}
#endif

}  // namespace
}  // namespace ptq::cuda

// Streams and events of the stand-in runtime: work is as late as CUDA allows, and a wait that is missing shows.
#include "simt_kernels.h"

#include <cstdint>

namespace ptq::cuda {
namespace {

using ::simt::Lag;

class SimtStreams : public ::testing::Test {
 protected:
  void SetUp() override {
    ::simt::set_lag(Lag::copies);
    for (cudaStream_t* s : {&copies, &kernels}) ASSERT_EQ(cudaStreamCreate(s), cudaSuccess);
    ASSERT_EQ(cudaEventCreate(&event), cudaSuccess);
  }
  void TearDown() override {
    for (cudaStream_t s : {copies, kernels}) EXPECT_EQ(cudaStreamDestroy(s), cudaSuccess);
    EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
    ::simt::set_lag(Lag::copies);
  }

  void copy(int* to, const int* from) { copy(to, from, copies); }
  static void copy(int* to, const int* from, cudaStream_t stream) {
    cudaMemcpyAsync(to, from, sizeof *to, cudaMemcpyHostToDevice, stream);
  }
  // *to = *from
  void read(int* to, const int* from) {
    run(
        {.block = 1, .stream = kernels}, [](int* out, const int* in) { *out = *in; }, to, from);
  }

  cudaStream_t copies = nullptr, kernels = nullptr;
  cudaEvent_t event = nullptr;
  int source = 7, memory = -1, seen = 0;
};

TEST_F(SimtStreams, ACopyHappensWhenItsStreamIsWaitedFor) {
  copy(&memory, &source);
  EXPECT_EQ(memory, -1);
  cudaStreamSynchronize(kernels);
  EXPECT_EQ(memory, -1);
  cudaStreamSynchronize(copies);
  EXPECT_EQ(memory, 7);
}

TEST_F(SimtStreams, WorkOfAStreamKeepsItsOrder) {
  for (Lag lag : {Lag::copies, Lag::kernels}) {
    ::simt::set_lag(lag);
    memory = -1;
    copy(&memory, &source, kernels);
    read(&seen, &memory);
    copy(&memory, &seen, kernels);
    cudaMemsetAsync(&memory, 0, 1, kernels);
    cudaStreamSynchronize(kernels);
    EXPECT_EQ(seen, 7);
    EXPECT_EQ(memory, 0);
  }
}

TEST_F(SimtStreams, AKernelThatWaitsForNoEventReadsOldMemory) {
  copy(&memory, &source);
  read(&seen, &memory);
  cudaStreamSynchronize(kernels);
  EXPECT_EQ(seen, -1);

  cudaEventRecord(event, copies);
  cudaStreamWaitEvent(kernels, event, 0);
  read(&seen, &memory);
  cudaStreamSynchronize(kernels);
  EXPECT_EQ(seen, 7);
}

TEST_F(SimtStreams, ACopyThatWaitsForNoEventComesBeforeTheKernel) {
  ::simt::set_lag(Lag::kernels);
  read(&seen, &memory);
  copy(&memory, &source);
  cudaStreamSynchronize(kernels);
  EXPECT_EQ(seen, 7);  // not -1, which was there when the kernel was launched

  int next = 8;
  read(&seen, &memory);
  cudaEventRecord(event, kernels);
  cudaStreamWaitEvent(copies, event, 0);
  copy(&memory, &next);
  cudaStreamSynchronize(kernels);
  EXPECT_EQ(seen, 7);
  cudaStreamSynchronize(copies);
  EXPECT_EQ(memory, 8);
}

TEST_F(SimtStreams, AWaitIsForTheRecordBeforeIt) {
  cudaStreamWaitEvent(kernels, event, 0);  // never recorded: nothing
  int other = -1;
  cudaEventRecord(event, copies);
  cudaStreamWaitEvent(kernels, event, 0);
  copy(&memory, &source);
  cudaEventRecord(event, copies);
  copy(&other, &source);
  read(&seen, &memory);
  EXPECT_EQ(seen, -1);
  EXPECT_EQ(cudaEventSynchronize(event), cudaSuccess);
  EXPECT_EQ(memory, 7);
  EXPECT_EQ(other, -1);
  cudaStreamSynchronize(copies);
  EXPECT_EQ(other, 7);
}

TEST_F(SimtStreams, TheDefaultStreamWaitsForAll) {
  copy(&memory, &source);
  run(
      {.block = 1}, [](int* out, const int* in) { *out = *in; }, &seen, &memory);
  EXPECT_EQ(seen, 7);
}

TEST_F(SimtStreams, MemoryIsFreedWhenItsWorkIsDone) {
  void* device = nullptr;
  ASSERT_EQ(cudaMalloc(&device, sizeof source), cudaSuccess);
  bool freed = false;
  cudaMemcpyAsync(device, &source, sizeof source, cudaMemcpyHostToDevice, copies);
  cudaMemcpyAsync(&seen, device, sizeof source, cudaMemcpyDeviceToHost, copies);
  cudaFree(device);
  ::simt::when_done([&] { freed = true; });
  EXPECT_FALSE(freed);
  cudaStreamSynchronize(copies);
  EXPECT_EQ(seen, 7);
  EXPECT_TRUE(freed);
  freed = false;
  ::simt::when_done([&] { freed = true; });
  EXPECT_TRUE(freed);
}

TEST_F(SimtStreams, AFaultShowsWhenItsStreamIsWaitedForAndEndsIt) {
  ::simt::set_lag(Lag::kernels);
  run({.block = 2, .stream = kernels}, [] {
    if (threadIdx.x == 0) __syncwarp(0xffffffffu);  // the other thread never comes
  });
  read(&seen, &source);
  expect_error(Exit::internal, "__syncwarp", [&] { cudaStreamSynchronize(kernels); });
  cudaStreamSynchronize(kernels);
  EXPECT_EQ(seen, 0);
}

TEST(SimtLag, IsOneOfTwo) {
  EXPECT_EQ(::simt::parse_lag("copies"), Lag::copies);
  EXPECT_EQ(::simt::parse_lag("kernels"), Lag::kernels);
  expect_error(Exit::usage, "PTQ_SIMT_LAG=late", [] { ::simt::parse_lag("late"); });
}

}  // namespace
}  // namespace ptq::cuda

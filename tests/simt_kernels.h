// What the tests of the SIMT executor share: kernels are lambdas without captures, and everything runs in several
// orders. Include it only in files compiled as the kernels are: the stand-in <cuda_runtime.h> and -Dcuda=simt.
#pragma once

#include "cuda/ptx.cuh"
#include "temporary.h"

#include <numeric>
#include <string>
#include <vector>

namespace ptq::cuda {

using ::simt::Schedule;
using Order = Schedule::Order;

inline const std::vector<Schedule> schedules{
    {Order::forward, 0}, {Order::reverse, 0}, {Order::random, 1}, {Order::random, 2}};

template <class Kernel, class... A>
void run(const LaunchSpec& spec, Kernel kernel, A... args) {
  launch("planted", +kernel, spec, args...);
}

// A test in every order: TEST_P(Simt, ...) and PTQ_IN_ALL_ORDERS once in its file.
class Simt : public ::testing::TestWithParam<Schedule> {
 protected:
  void SetUp() override { ::simt::set_schedule(GetParam()); }
  void TearDown() override {
    ::simt::set_schedule({});
    ::simt::set_workers(1);
  }
};

inline std::string name_of_order(const ::testing::TestParamInfo<Schedule>& i) {
  const char* names[] = {"forward", "reverse", "random"};
  return names[static_cast<int>(i.param.order)] + std::to_string(i.param.seed);
}
#define PTQ_IN_ALL_ORDERS INSTANTIATE_TEST_SUITE_P(Orders, Simt, ::testing::ValuesIn(schedules), name_of_order)

// What cp.async copies and ldmatrix reads.
struct alignas(16) Chunk {
  unsigned char bytes[16];
};

inline Chunk chunk(int first) {
  Chunk c;
  std::iota(std::begin(c.bytes), std::end(c.bytes), static_cast<unsigned char>(first));
  return c;
}

}  // namespace ptq::cuda

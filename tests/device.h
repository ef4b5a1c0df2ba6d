// The backend that tests of whole layers run on: the CPU's, or that of $PTQ_TEST_DEVICE (cpu, simt, cuda).
#pragma once

#include "host/ops.h"

#include <cstdlib>
#include <string>

namespace ptq {

inline std::unique_ptr<Ops> make_test_ops(int threads = 2) {
  const char* name = std::getenv("PTQ_TEST_DEVICE");
  const std::string device = name == nullptr ? "cpu" : name;
  if (device == "simt") return make_simt_ops(threads);
#ifdef PTQ_WITH_CUDA
  if (device == "cuda") return make_cuda_ops();
#endif
  require(device == "cpu", Exit::usage, "PTQ_TEST_DEVICE={}: expected cpu, simt, or cuda in a build with CUDA", device);
  return make_cpu_ops(threads);
}

// Shared by the tests of a program; results do not depend on its threads.
inline Ops& ops() {
  static const std::unique_ptr<Ops> instance = make_test_ops();
  return *instance;
}

}  // namespace ptq

// The CPU backend that tests of whole layers share; results do not depend on its threads.
#pragma once

#include "host/ops.h"

namespace ptq {

inline Ops& ops() {
  static const std::unique_ptr<Ops> instance = make_cpu_ops(2);
  return *instance;
}

}  // namespace ptq

// What tests can make the stand-in runtime do.
#pragma once

#include <cstdint>

namespace simt {

// The allocation after the next `after` ones fails once with cudaErrorMemoryAllocation; < 0: none does. At the start
// $PTQ_SIMT_FAIL_ALLOCATION, so that whole commands can be tested.
void fail_allocation(std::int64_t after);

// Is called before every allocation, so that a test can see who allocates; null: nothing is.
void observe_allocations(void (*observer)());

}  // namespace simt

// Launcher of gptq.cu.
#pragma once

#include "cuda/stream.h"
#include "host/grid.h"

#include <cstddef>
#include <cstdint>

namespace ptq::cuda {

// A sweep of W (N, I) by U (I, I); Ops::gptq_sweep says what it does.
struct Sweep {
  float* w;                   // (N, I) in, rounded out
  std::uint8_t* codes;        // (N, I) out
  float *scales, *zeros;      // (N, G) out with find_grids, else in
  double* row_error;          // (N) out
  const float* u;             // (I, I)
  const std::int32_t* g_idx;  // (I) group of each column; null: column / group
  float* scratch;             // sweep_scratch() floats, or null if that is 0
  int rows, columns, groups;  // N, I, G
  int group;                  // columns per group
  int block;                  // lazy update block, at most I
  bool find_grids;            // the grid of a group comes from W when the block that the group begins in is reached
  bool aligned;               // rows of w and u begin at multiples of 16 bytes; the launcher finds out
  GridSpec grid;
};

std::size_t sweep_scratch(const Sweep& sweep);

void gptq_sweep(Sweep sweep, Stream stream);

}  // namespace ptq::cuda

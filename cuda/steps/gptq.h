// The rungs of the ladder for the GPTQ sweep (docs/ladder-gptq.md). Each has the contract of gptq_sweep() in
// cuda/gptq.h, with errors of a block in memory: see gptq_step_scratch().
#pragma once

#include "cuda/gptq.h"

namespace ptq::cuda {

void gptq_sweep_naive(Sweep sweep, Stream stream);      // two launches a column
void gptq_sweep_tiled(Sweep sweep, Stream stream);      // two or three launches a block of columns
void gptq_sweep_tensor(Sweep sweep, Stream stream);     // the product behind a block on tensor cores; codes may differ
void gptq_sweep_pipelined(Sweep sweep, Stream stream);  // one launch, copies ahead of the product

// Floats of Sweep::scratch for any rung: e of the columns of a block, (N, B).
inline std::size_t gptq_step_scratch(const Sweep& s) {
  return static_cast<std::size_t>(s.rows) * static_cast<std::size_t>(s.block);
}

// Parts that several rungs launch for a block of columns [begin, end).
void gptq_step_grids(const Sweep& s, int begin, int end, Stream stream);    // of the groups that begin in it; naive.cu
void gptq_step_columns(const Sweep& s, int begin, int end, Stream stream);  // rounds them, writes e; tiled.cu

}  // namespace ptq::cuda

// What a cell takes: time, memory and disk, from the shape of its model alone. Operations are counted as the formulas in
// host/ops.h have them; the time follows from a rate that the caller knows or guesses.
#pragma once

#include "eval/grid.h"

#include <cstdint>
#include <span>
#include <vector>

namespace ptq {

// How fast a machine is, in operations that were counted, not in those that its data sheet promises.
struct MachineRate {
  double flops = 0;         // per second, of matrix products in the compute type
  double sweep_flops = 0;   // per second, of the GPTQ sweep and factorisations in fp32
  double cell_seconds = 0;  // of every cell: reading weights, tokenizing, publishing
};

struct CellCost {
  double products = 0;      // flops of forward passes, Hessians, searches
  double sweep = 0;         // flops of factorisations and sweeps
  double host = 0;          // peak bytes of host memory on the CPU
  double changed = 0;       // of these, tensors that quantization changed: on disk if the layers are kept
  double device = 0;        // peak bytes of GPU memory
  double device_least = 0;  // the same with blocks streamed, two at a time
  double result = 0;        // bytes in the store when it is done
  double partial = 0;       // bytes in the store while its layers are kept

  double seconds(const MachineRate& rate) const {
    return products / rate.flops + sweep / rate.sweep_flops + rate.cell_seconds;
  }
};

// `compute`: the cell's type. `metric_bytes`: size of the texts and tasks that are files of the user, by metric; 0 or
// absent: unknown.
CellCost cost_of(const Grid& grid, const GridCell& cell, const ModelShape& shape, DType compute,
                 std::span<const double> metric_bytes = {});

// Linear weights of one block.
double block_weights(const ModelShape& shape);

}  // namespace ptq

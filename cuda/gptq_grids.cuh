// The grids that a GPTQ sweep finds on its way: a part of gptq.cu and of the rungs of its ladder.
#pragma once

#include "cuda/gptq.h"
#include "cuda/row_grid.cuh"

#include <algorithm>

namespace ptq::cuda {

// Grids of the groups that begin in the columns [begin, end), for the rows from `first` on, at most `rows`, from W as
// the blocks of columns before have left it: warp <-> group of a row.
__device__ inline void find_grids(const Sweep& s, int first, int rows, int begin, int end) {
  const int g0 = static_cast<int>(tiles(begin, s.group)), groups = static_cast<int>(tiles(end, s.group)) - g0;
  const int pairs = groups * std::min(rows, s.rows - first), warps = static_cast<int>(blockDim.x) / warp_lanes;
  for (int p = warp_index(); p < pairs; p += warps) {
    const std::int64_t row = first + p / groups;
    const int g = g0 + p % groups, column = g * s.group;
    const float* from = s.w + row * s.columns + column;
    const GridPoint point = warp_grid([=](int i) { return from[i]; }, std::min(s.group, s.columns - column), s.grid);
    if (lane_index() == 0) {
      s.scales[row * s.groups + g] = point.scale;
      s.zeros[row * s.groups + g] = point.zero;
    }
  }
}

}  // namespace ptq::cuda

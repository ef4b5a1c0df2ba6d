// Launchers of grids.cu.
#pragma once

#include "cuda/stream.h"
#include "host/grid.h"

#include <cstdint>

namespace ptq::cuda {

// scales, zeros (rows, groups) of w (rows, columns), a grid for each `group` columns; groups = ceil(columns / group).
void group_grids(float* scales, float* zeros, const float* w, std::int64_t rows, std::int64_t columns,
                 std::int64_t group, const GridSpec& grid, Stream stream);

// w (rows, columns) is rounded in place, codes (rows, columns). scales, zeros (rows, groups); g_idx (columns) in
// 0..groups-1.
void round_to_grids(float* w, std::uint8_t* codes, const float* scales, const float* zeros, const std::int32_t* g_idx,
                    std::int64_t rows, std::int64_t columns, std::int64_t groups, const GridSpec& grid, Stream stream);

}  // namespace ptq::cuda

// LLM.int8() (spec D.2): feature columns with large values stay in floating point.
#pragma once

#include "host/ops.h"

#include <span>

namespace ptq {

// Rows of x [T,I] as integers. In each sequence, columns in which some |x| >= threshold keep their values in `outliers`
// (which has the union of the sequences' columns) and have code 0. A row's scale is its absmax over the entries below
// the threshold, as in bitsandbytes.
Int8Rows quantize_with_outliers(Ops& ops, const Tensor& x, std::span<const Segment> segments, float threshold,
                                int bits);

}  // namespace ptq

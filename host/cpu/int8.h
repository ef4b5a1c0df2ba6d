// Symmetric int8 rounding of one row, for weights and activations alike (spec C.4).
#pragma once

#include <cstdint>

namespace ptq {

// codes[i] = rne(x[i] / scale), scale = max(absmax, 1e-5) / 127, which is returned. A row with a NaN or infinity gets
// codes 0 and a NaN scale: it must not look like a number downstream.
float quantize_int8_row(const float* x, std::int64_t n, std::int8_t* codes);

}  // namespace ptq

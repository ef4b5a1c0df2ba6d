// Symmetric rounding of one row to integers, for weights and activations alike (spec C.4).
#pragma once

#include <cstdint>

namespace ptq {

// max |x|; infinity or NaN if one is among them.
float absmax_of(const float* x, std::int64_t n);

// codes[i] = rne(x[i] / scale), clamped to +-(2^(bits-1) - 1); scale = max(absmax, 1e-5) / (2^(bits-1) - 1) is
// returned. A row with a NaN or infinity, or such an absmax, gets codes 0 and a NaN scale: it must not look like a
// number downstream.
float quantize_row(const float* x, std::int64_t n, float absmax, int bits, std::int8_t* codes);

}  // namespace ptq

// Sums over activations and tensors. Letters and meaning: host/ops.h. dtype is that of the void* tensors of a call:
// f32, bf16 or f16. Everything is f64 in a fixed order or integers: the same bits on every run and device.
#pragma once

#include "cuda/stream.h"
#include "host/dtype.h"

#include <cstdint>

namespace ptq::cuda {

// moments [5,I], extremes [2,I] += columns of x [T,I]
void channel_sums(double* moments, float* extremes, const void* x, DType dtype, std::int64_t rows, std::int64_t width,
                  Stream stream);

// counts [bins + 2] += elements of x [n] below lo, in the bins of [lo, hi), from hi on
void histogram(std::int64_t* counts, const void* x, DType dtype, std::int64_t n, std::int64_t bins, double lo,
               double hi, Stream stream);

// The two kernels below turn each piece of so many elements into one total.
constexpr std::int64_t total_piece = 16384;
constexpr std::int64_t total_pieces(std::int64_t n) { return (n + total_piece - 1) / total_piece; }

// totals [pieces of n]: sum (a - b)^2 of each piece of a, b [n]
void squared_difference(double* totals, const void* a, const void* b, DType dtype, std::int64_t n, Stream stream);

// totals [pieces of n]: NaNs and infinities in each piece of x [n]
void count_nonfinite(std::int32_t* totals, const void* x, DType dtype, std::int64_t n, Stream stream);

}  // namespace ptq::cuda

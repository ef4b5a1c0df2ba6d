// The upper factor U of H^-1 = U^T U.
#pragma once

#include "cuda/stream.h"

#include <cstdint>

namespace ptq::cuda {

constexpr std::int64_t factor_block = 64;  // columns eliminated at a time
constexpr std::int64_t factor_width(std::int64_t n) { return (n + factor_block - 1) / factor_block * factor_block; }

// h [n,n] (upper triangle read) becomes U, its strict lower triangle 0. Work space: tile [block, block], solved
// [block, factor_width(n)], 16-byte aligned. failed [1], 0 at the start, becomes 1 if H is not positive definite.
// T: float, double.
template <class T>
void factor_inverse(T* h, T* tile, T* solved, std::int32_t* failed, std::int64_t n, Stream stream);

}  // namespace ptq::cuda

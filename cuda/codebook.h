// Launchers of codebook.cu.
#pragma once

#include "cuda/stream.h"
#include "host/dtype.h"

#include <cstdint>
#include <span>

namespace ptq::cuda {

// Book: 1..256 ascending values, on the host. codes (rows, columns), absmax (rows), w (rows, columns).
void round_to_book(std::uint8_t* codes, float* absmax, const float* w, std::int64_t rows, std::int64_t columns,
                   std::span<const float> book, Stream stream);

// y, x (rows, columns) of dtype f32, bf16 or f16; y may be x. Each `block` columns of a row have their own absmax.
void fake_round_to_book(void* y, const void* x, DType dtype, std::int64_t rows, std::int64_t columns,
                        std::span<const float> book, std::int64_t block, Stream stream);

}  // namespace ptq::cuda

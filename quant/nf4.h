// NF4 weights (QLoRA, arXiv 2305.14314; spec D.3; source: bitsandbytes functional.py): the flattened matrix in blocks,
// each divided by its absmax and rounded to a book of 16 normal quantiles. With double quantization the absmax values
// themselves take 8 bits.
#pragma once

#include "quant/quantized_matrix.h"
#include "quant/scheme.h"

#include <array>

namespace ptq {

// The signed 8-bit "dynamic" map of bitsandbytes, ascending: a sign, a decimal exponent of 0 to 6 leading zeros, and
// the rest a linear fraction; -0.99 .. 1, with 0 among them.
const std::array<float, 256>& dynamic_book();

// absmax ~= dynamic_book[codes] * absmax2[block of 256] + offset.
struct DoubleQuantized {
  Tensor codes;    // [R] u8
  Tensor absmax2;  // [ceil(R / 256)] f32
  float offset;    // mean of absmax
};

// absmax [R] f32 on the host, R > 0. Equal to bitsandbytes' CPU path, whose table lookup rounds to the nearest of 65536
// points before it rounds to the book; its CUDA kernel does the latter only, which moves a few codes by one.
DoubleQuantized double_quantize(const Tensor& absmax);
Tensor dequantize(const DoubleQuantized& d);  // [R] f32

// W [N,K] f32 on the host, blocks of spec.group elements in row-major order, the last one perhaps shorter. codes are
// places in nf4_book, scales [blocks,1] absmax as the dequantized weight uses them; zeros and g_idx are empty.
QuantizedMatrix quantize_nf4(Ops& ops, const Tensor& w, const QuantSpec& spec);

}  // namespace ptq

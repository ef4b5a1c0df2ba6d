// Integer codes in 32-bit words, as GPTQ, AWQ and compressed-tensors store them (spec F.1, F.2, F.4). The three differ
// in the direction along which a run of codes is packed and in the order inside a word, not in the packing itself.
#pragma once

#include "host/tensor.h"

namespace ptq {

// Words that a run of `count` codes takes: its bits, rounded up to whole words.
std::int64_t packed_words(std::int64_t count, int bits);

// Code j of a row occupies bits [j * bits, (j + 1) * bits) of the row's words, read as one little-endian number. For 2,
// 4 and 8 bits a word holds 32 / bits codes, the first in the lowest bits; for 3 bits, 32 codes fill 3 words and two of
// them straddle words. codes [R, C] u8, below 2^bits -> words [R, packed_words(C)] i32, padded with zeros.
Tensor pack_rows(const Tensor& codes, int bits);

// The inverse: words [R, packed_words(count)] i32 -> codes [R, count] u8.
Tensor unpack_rows(const Tensor& words, int bits, std::int64_t count);

// [R, C] -> [C, R], for elements of 1, 2 or 4 bytes.
Tensor transpose(const Tensor& matrix);

// AWQ's order inside a word of eight 4-bit codes: position i holds code {0,2,4,6,1,3,5,7}[i]. codes [R, C] u8, C a
// multiple of 8; both return a new tensor, and each undoes the other.
Tensor awq_interleave(const Tensor& codes);
Tensor awq_deinterleave(const Tensor& codes);

}  // namespace ptq

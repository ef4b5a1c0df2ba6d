// Launchers of kernels that do one instruction of ptx.cuh each, for tests/test_ptx.cpp: on the SIMT executor they
// compare the meanings with the PTX ISA, on a GPU the maps of ptx.cuh with the hardware. All pointers are the device's.
#pragma once

#include "cuda/stream.h"
#include "host/dtype.h"

#include <cstdint>

namespace ptq::cuda {

// T: bf16 or f16. y[i] = as_float(x[i]); y[i] = round_to<T>(x[i]).
template <class T>
void ptx_widen(float* y, const T* x, int n, Stream stream);
template <class T>
void ptx_round(T* y, const float* x, int n, Stream stream);
// pairs[i] = pack_pair<T>(x[2i], x[2i+1]), and unpack_pair of that into y.
template <class T>
void ptx_pairs(std::uint32_t* pairs, float* y, const float* x, int n, Stream stream);

// Chunks of `size` (4 or 16) bytes: y[c] = the first bytes[c] of x[c], then zeros; one group per chunk, waited for one
// by one.
void ptx_copy(unsigned char* y, const unsigned char* x, const int* bytes, int chunks, int size, Stream stream);

// y (32 lanes, 4 registers) of the 32 rows of 8 halves of x, lane l giving the address of row rows[l].
void ptx_load(std::uint32_t* y, const std::uint16_t* x, const int* rows, bool transposed, Stream stream);

// n products each, registers as they are: c (n, 32, 4) += a (n, 32, 4) b (n, 32, 2).
template <class T>
void ptx_mma_registers(float* c, const std::uint32_t* a, const std::uint32_t* b, int n, Stream stream);
void ptx_mma_registers_s8(std::int32_t* c, const std::uint32_t* a, const std::uint32_t* b, int n, Stream stream);

// The same of matrices, through the maps of ptx.cuh: c (n, 16, 8) += a (n, 16, K) b (n, K, 8); K = 16, of s8 32.
template <class T>
void ptx_mma(float* c, const T* a, const T* b, int n, Stream stream);
void ptx_mma_s8(std::int32_t* c, const std::int8_t* a, const std::int8_t* b, int n, Stream stream);

}  // namespace ptq::cuda

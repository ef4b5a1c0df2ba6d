// Rows to symmetric integers: their largest magnitudes, their codes, or the values that the codes stand for
//   formula   absmax[t] = max_i |x[t,i]|     scale[t] = max(absmax[t], 1e-5) / L,  L = 2^(bits-1) - 1
//             codes[t,i] = clamp(rne(x[t,i] / scale[t]), -L, L)     y[t,i] = codes[t,i] * scale[t]
//             a row with a NaN or infinity, or such an absmax: codes 0, scale NaN
//   shapes    x, y, codes (T, I)   absmax, scales (T)
//   maps      block t <-> row t; thread <-> chunks of 16 bytes of x, i = threadIdx (mod 256); the second pass over the
//             row reads it from the cache
//   cost      reads x once, writes the codes (or y): memory-bound
//   twin      host/cpu/int8.cpp     test  tests/test_ops_products.cpp     chain  0: every result is exact
#include "cuda/quantize_rows.h"

#include "cuda/block.cuh"
#include "cuda/chunk.cuh"
#include "cuda/types.h"
#include "host/grid.h"

#include <limits>

namespace ptq::cuda {

namespace {

constexpr int block_threads = 256;  // 8 warps a row of a few thousand columns: every thread has loads in flight

// |x| as bits: their order is that of the values, infinity and NaN last.
__device__ inline unsigned magnitude(float x) { return __float_as_uint(x) & 0x7fffffffu; }

constexpr unsigned infinity_bits = 0x7f800000u;

template <class T>
__device__ int first_of_thread() {
  return static_cast<int>(threadIdx.x) * chunk<T>;
}

// The largest magnitude of a row, in every thread of the block. scratch [32]
template <bool vector, class T>
__device__ unsigned largest_of_row(const T* row, int columns, unsigned* scratch) {
  unsigned largest = 0;
  for (int i = first_of_thread<T>(); i < columns; i += block_threads * chunk<T>) {
    float value[chunk<T>];
    load<vector>(value, row + i, columns - i);
#pragma unroll
    for (float v : value) largest = std::max(largest, magnitude(v));
  }
  return block_reduce(largest, scratch, [](unsigned a, unsigned b) { return std::max(a, b); });
}

// The integers of one row. Without a finite range the scale is NaN and every code 0.
struct RowCodes {
  float scale;
  int bits;
  bool finite;

  // absmax: given, or null
  __device__ RowCodes(unsigned largest, const float* absmax, int b) : bits(b) {
    const float range = absmax != nullptr ? *absmax : __uint_as_float(largest);
    finite = largest < infinity_bits && magnitude(range) < infinity_bits;
    scale = finite ? absmax_scale(range, bits) : std::numeric_limits<float>::quiet_NaN();
  }
  __device__ int code(float x) const { return finite ? static_cast<int>(absmax_code(x, scale, bits)) : 0; }
};

template <bool vector, class T>
__global__ void __launch_bounds__(block_threads) row_absmax_kernel(float* __restrict__ absmax,  // (T)
                                                                   const T* __restrict__ x,     // (T, I)
                                                                   int columns) {               // I
  const unsigned largest =
      largest_of_row<vector>(x + std::int64_t{blockIdx.x} * columns, columns, dynamic_smem<unsigned>());
  if (threadIdx.x == 0) absmax[blockIdx.x] = __uint_as_float(largest);
}

// The first `count` codes (n, if less); with `vector` all n at once.
template <bool vector, int n>
__device__ void store_codes(std::int8_t* to, const std::int8_t (&code)[n], int count) {
  if constexpr (vector) {
    using Word = std::conditional_t<n == 8, std::uint64_t, std::uint32_t>;
    static_assert(sizeof(Word) == n);
    *reinterpret_cast<Word*>(to) = *reinterpret_cast<const Word*>(code);
  } else {
#pragma unroll
    for (int e = 0; e < n; ++e) {
      if (e < count) to[e] = code[e];
    }
  }
}

template <bool vector, class T>
__global__ void __launch_bounds__(block_threads) quantize_rows_kernel(std::int8_t* __restrict__ codes,   // (T, I)
                                                                      float* __restrict__ scales,        // (T)
                                                                      const T* __restrict__ x,           // (T, I)
                                                                      const float* __restrict__ absmax,  // (T) or null
                                                                      int columns,                       // I
                                                                      int bits) {
  const std::int64_t t = blockIdx.x;
  const T* row = x + t * columns;
  const unsigned largest = largest_of_row<vector>(row, columns, dynamic_smem<unsigned>());
  const RowCodes to(largest, absmax != nullptr ? absmax + t : nullptr, bits);
  if (threadIdx.x == 0) scales[t] = to.scale;

  for (int i = first_of_thread<T>(); i < columns; i += block_threads * chunk<T>) {
    float value[chunk<T>];
    load<vector>(value, row + i, columns - i);
    alignas(chunk<T>) std::int8_t code[chunk<T>];
#pragma unroll
    for (int e = 0; e < chunk<T>; ++e) code[e] = static_cast<std::int8_t>(to.code(value[e]));
    store_codes<vector>(codes + t * columns + i, code, columns - i);
  }
}

template <bool vector, class T>
__global__ void __launch_bounds__(block_threads)
    fake_quantize_rows_kernel(T* y,                              // (T, I), may be x: a thread writes what it has read
                              const T* x,                        // (T, I)
                              const float* __restrict__ absmax,  // (T) or null
                              int columns,                       // I
                              int bits) {
  const std::int64_t t = blockIdx.x;
  const unsigned largest = largest_of_row<vector>(x + t * columns, columns, dynamic_smem<unsigned>());
  const RowCodes to(largest, absmax != nullptr ? absmax + t : nullptr, bits);

  for (int i = first_of_thread<T>(); i < columns; i += block_threads * chunk<T>) {
    float value[chunk<T>];
    load<vector>(value, x + t * columns + i, columns - i);
#pragma unroll
    for (float& v : value) v = static_cast<float>(to.code(v)) * to.scale;
    store<vector>(y + t * columns + i, value, columns - i);
  }
}

// f(x as its type, whether all rows of x, and of `also`, allow vectors)
template <class F>
void visit_rows(const FloatRows& x, const void* also, F&& f) {
  visit_float(x.dtype, [&](auto type) {
    using T = decltype(type);
    const auto* data = static_cast<const T*>(x.data);
    if (fits_vectors(x.columns * static_cast<std::int64_t>(sizeof(T)), {x.data, also}))
      f(data, std::true_type{});
    else
      f(data, std::false_type{});
  });
}

LaunchSpec one_block_a_row(const FloatRows& x, double bytes_out, Stream stream) {
  const auto elements = static_cast<double>(x.rows) * static_cast<double>(x.columns);
  return {.grid = static_cast<unsigned>(x.rows),
          .block = block_threads,
          .smem = warp_lanes * sizeof(unsigned),
          .stream = stream,
          .flops = 2.0 * elements,
          .bytes = static_cast<double>(size_of(x.dtype)) * elements + bytes_out};
}

}  // namespace

void row_absmax(float* absmax, const FloatRows& x, Stream stream) {
  visit_rows(x, nullptr, [&]<class T, bool vector>(const T* data, std::bool_constant<vector>) {
    launch("row_absmax", row_absmax_kernel<vector, T>, one_block_a_row(x, 4.0 * static_cast<double>(x.rows), stream),
           absmax, data, static_cast<int>(x.columns));
  });
}

void quantize_rows(std::int8_t* codes, float* scales, const FloatRows& x, int bits, const float* absmax,
                   Stream stream) {
  visit_rows(x, codes, [&]<class T, bool vector>(const T* data, std::bool_constant<vector>) {
    const double written = static_cast<double>(x.rows) * static_cast<double>(x.columns + 4);
    launch("quantize_rows", quantize_rows_kernel<vector, T>, one_block_a_row(x, written, stream), codes, scales, data,
           absmax, static_cast<int>(x.columns), bits);
  });
}

void fake_quantize_rows(void* y, const FloatRows& x, int bits, const float* absmax, Stream stream) {
  visit_rows(x, y, [&]<class T, bool vector>(const T* data, std::bool_constant<vector>) {
    const double written =
        static_cast<double>(size_of(x.dtype)) * static_cast<double>(x.rows) * static_cast<double>(x.columns);
    launch("fake_quantize_rows", fake_quantize_rows_kernel<vector, T>, one_block_a_row(x, written, stream),
           static_cast<T*>(y), data, absmax, static_cast<int>(x.columns), bits);
  });
}

}  // namespace ptq::cuda

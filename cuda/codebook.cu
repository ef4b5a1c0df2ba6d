// Rounding to a code book (NF4, spec D.3)
//   formula   absmax = max |x|,  code = number of midpoints of neighbouring book values below x / absmax,
//             y = book[code] absmax
//   shapes    codes (R, B) u8   absmax (R) f32   w (R, B) f32;  y, x (T, I) in runs of `block` columns
//   maps      warp <-> row or run, 8 of them one after the other
//   cost      log2 of the book's size comparisons an element; reads x once (the second look hits the first-level
//             cache), writes codes or y: memory-bound
//   twin      host/cpu/codebook.cpp     test  tests/test_ops_codebook.cpp     chain  1
#include "cuda/codebook.h"

#include "cuda/block.cuh"
#include "cuda/ptx.cuh"
#include "cuda/types.h"

namespace ptq::cuda {

namespace {

constexpr int threads = 256;  // 8 warps: 8 blocks fill an SM
constexpr int warps = threads / warp_lanes;
constexpr int runs_per_warp = 8;  // so that copying the book to shared memory does not count
constexpr int book_size = 256;

// The book as kernels get it, by value.
struct Book {
  float value[book_size];
  float midpoint[book_size];  // of value[i] and value[i + 1], rounded to fp32 as in bitsandbytes
  int size;
};
static_assert(sizeof(Book) <= 4000, "kernel parameters are at most 4 KiB");

Book book_of(std::span<const float> values) {
  Book b{};
  b.size = static_cast<int>(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    b.value[i] = values[i];
    if (i + 1 < values.size()) b.midpoint[i] = (values[i] + values[i + 1]) / 2.0f;
  }
  return b;
}

}  // namespace

// The book in shared memory, where every lane may look at another place.
struct SharedBook {
  const float *value, *midpoint;
  int size;

  __device__ explicit SharedBook(const Book& book) : size(book.size) {
    auto* memory = dynamic_smem<float>();
    for (int i = static_cast<int>(threadIdx.x); i < size; i += threads) {
      memory[i] = book.value[i];
      memory[book_size + i] = book.midpoint[i];
    }
    __syncthreads();  // the book is complete
    value = memory;
    midpoint = memory + book_size;
  }

  // Binary search; a midpoint takes the lower code, NaN code 0, and a run of zeros the code of 0.
  __device__ int code(float x, float absmax) const {
    const float scaled = absmax > 0.0f ? x / absmax : 0.0f;
    int code = 0;
    for (int step = book_size / 2; step > 0; step /= 2) {
      if (code + step < size && scaled > midpoint[code + step - 1]) code += step;
    }
    return code;
  }
};

// NaN if one of them is: its run is then NaN and does not hide it.
template <class T>
__device__ float warp_absmax(const T* x, int n) {
  float m = 0.0f;
  for (int i = lane_index(); i < n; i += warp_lanes) {
    const float a = fabsf(as_float(x[i]));
    m = a > m || a != a ? a : m;
  }
  return warp_max(m);
}

__global__ void __launch_bounds__(threads) round_to_book_kernel(std::uint8_t* __restrict__ codes,  // (R, B)
                                                                float* __restrict__ absmax,        // (R)
                                                                const float* __restrict__ w,       // (R, B)
                                                                std::int64_t rows,                 // R
                                                                int columns,                       // B
                                                                Book given) {
  const SharedBook book(given);
  const std::int64_t first = (static_cast<std::int64_t>(blockIdx.x) * warps + warp_index()) * runs_per_warp;
  for (std::int64_t row = first; row < std::min(rows, first + runs_per_warp); ++row) {
    const float* from = w + row * columns;
    const float scale = warp_absmax(from, columns);
    if (lane_index() == 0) absmax[row] = scale;
    for (int i = lane_index(); i < columns; i += warp_lanes) {
      codes[row * columns + i] = static_cast<std::uint8_t>(book.code(from[i], scale));
    }
  }
}

template <class T>
__global__ void __launch_bounds__(threads) fake_round_to_book_kernel(T* y,               // (T, I), may be x
                                                                     const T* x,         // (T, I)
                                                                     std::int64_t rows,  // T
                                                                     int columns,        // I
                                                                     int block,          // columns of a run
                                                                     Book given) {
  const SharedBook book(given);
  const int runs = static_cast<int>(tiles(columns, block));
  const std::int64_t first = (static_cast<std::int64_t>(blockIdx.x) * warps + warp_index()) * runs_per_warp;
  for (std::int64_t run = first; run < std::min(rows * runs, first + runs_per_warp); ++run) {
    const int column = static_cast<int>(run % runs) * block, n = std::min(block, columns - column);
    const std::int64_t at = run / runs * columns + column;
    const float scale = warp_absmax(x + at, n);
    for (int i = lane_index(); i < n; i += warp_lanes) {
      y[at + i] = round_to<T>(book.value[book.code(as_float(x[at + i]), scale)] * scale);
    }
  }
}

void round_to_book(std::uint8_t* codes, float* absmax, const float* w, std::int64_t rows, std::int64_t columns,
                   std::span<const float> book, Stream stream) {
  launch("round_to_book", round_to_book_kernel,
         {.grid = static_cast<unsigned>(tiles(rows, warps * runs_per_warp)),
          .block = threads,
          .smem = 2 * book_size * sizeof(float),
          .stream = stream,
          .bytes = static_cast<double>(rows) * (5.0 * static_cast<double>(columns) + 4.0)},
         codes, absmax, w, rows, static_cast<int>(columns), book_of(book));
}

void fake_round_to_book(void* y, const void* x, DType dtype, std::int64_t rows, std::int64_t columns,
                        std::span<const float> book, std::int64_t block, Stream stream) {
  block = std::min(block, columns);
  visit_float(dtype, [&]<class T>(T) {
    launch("fake_round_to_book", fake_round_to_book_kernel<T>,
           {.grid = static_cast<unsigned>(
                tiles(rows * tiles(columns, std::max<std::int64_t>(block, 1)), warps * runs_per_warp)),
            .block = threads,
            .smem = 2 * book_size * sizeof(float),
            .stream = stream,
            .bytes = 2.0 * sizeof(T) * static_cast<double>(rows) * static_cast<double>(columns)},
           static_cast<T*>(y), static_cast<const T*>(x), rows, static_cast<int>(columns), static_cast<int>(block),
           book_of(book));
  });
}

}  // namespace ptq::cuda

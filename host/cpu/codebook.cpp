// Rounding to a code book (NF4, spec D.3): the code of x is the number of midpoints between book values below x, so a
// midpoint takes the lower code. Midpoints are fp32, as in bitsandbytes.
#include "host/cpu/cpu_ops.h"
#include "host/cpu/parallel.h"
#include "host/cpu/simd.h"
#include "host/op_checks.h"

#include <cmath>

namespace ptq {

namespace {

constexpr std::int64_t chunk = 64;  // elements coded side by side
constexpr std::int64_t grain_elements = 1 << 14;

class Coder {
 public:
  explicit Coder(CodeBook book) : book_(book) {
    for (std::size_t i = 0; i + 1 < book.size(); ++i) midpoints_.push_back((book[i] + book[i + 1]) / 2.0f);
  }

  // Codes of n <= chunk values x / absmax; a zero absmax codes 0.
  void code(const float* x, std::int64_t n, float absmax, std::int32_t* codes) const {
    float scaled[chunk] = {};
    if (absmax > 0.0f) {
      for (std::int64_t i = 0; i < n; ++i) scaled[i] = x[i] / absmax;
    }
    std::fill_n(codes, chunk, 0);
    for (const float m : midpoints_) {
      for (std::int64_t i = 0; i < chunk; ++i) codes[i] += scaled[i] > m ? 1 : 0;
    }
  }
  float value(std::int32_t code) const { return book_[static_cast<std::size_t>(code)]; }

 private:
  CodeBook book_;
  std::vector<float> midpoints_;
};

// NaN if one of them is: its block is then NaN and does not hide it.
float absmax_of(const float* x, std::int64_t n) {
  float m = 0.0f;
  for (std::int64_t i = 0; i < n; ++i) {
    const float a = std::fabs(x[i]);
    m = a > m || std::isnan(a) ? a : m;
  }
  return m;
}

}  // namespace

void CpuOps::round_to_book(const Tensor& codes, const Tensor& absmax, const Tensor& w, CodeBook book) {
  const std::int64_t rows = w.rows(), columns = w.cols();
  op_checks::round_to_book(codes, absmax, w, book);
  const Coder coder(book);
  const float* in = w.data<float>();
  auto* out = codes.data<std::uint8_t>();
  auto* scale = absmax.data<float>();
  const std::int64_t grain = std::max<std::int64_t>(1, grain_elements / std::max<std::int64_t>(1, columns));
  parallel_ranges(threads_, rows, grain, [&](std::int64_t begin, std::int64_t end) {
    std::int32_t code[chunk];
    for (std::int64_t r = begin; r < end; ++r) {
      scale[r] = absmax_of(in + r * columns, columns);
      for (std::int64_t c = 0; c < columns; c += chunk) {
        const std::int64_t n = std::min(chunk, columns - c);
        coder.code(in + r * columns + c, n, scale[r], code);
        for (std::int64_t i = 0; i < n; ++i) out[r * columns + c + i] = static_cast<std::uint8_t>(code[i]);
      }
    }
  });
}

void CpuOps::fake_round_to_book(const Tensor& y, const Tensor& x, CodeBook book, std::int64_t block) {
  const std::int64_t rows = x.rows(), columns = x.cols();
  op_checks::fake_round_to_book(y, x, book, block);
  const Coder coder(book);
  const std::int64_t grain = std::max<std::int64_t>(1, grain_elements / std::max<std::int64_t>(1, columns));
  simd::dispatch(x.dtype(), [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const T* in = x.data<T>();
    T* out = y.data<T>();
    parallel_ranges(threads_, rows, grain, [&](std::int64_t begin, std::int64_t end) {
      float* row = scratch<float>(0, static_cast<std::size_t>(columns));
      std::int32_t code[chunk];
      for (std::int64_t r = begin; r < end; ++r) {
        simd::to_floats(in + r * columns, row, columns);
        for (std::int64_t b = 0; b < columns; b += block) {
          const std::int64_t last = std::min(columns, b + block);
          const float scale = absmax_of(row + b, last - b);
          for (std::int64_t c = b; c < last; c += chunk) {
            const std::int64_t n = std::min(chunk, last - c);
            coder.code(row + c, n, scale, code);
            for (std::int64_t i = 0; i < n; ++i) row[c + i] = coder.value(code[i]) * scale;
          }
        }
        simd::from_floats(row, out + r * columns, columns);
      }
    });
  });
}

}  // namespace ptq

// W8A8: activations as integers (spec C.4) and the integer product.
#include "host/cpu/int8.h"
#include "host/cpu/block_product.h"
#include "host/cpu/cpu_ops.h"
#include "host/cpu/int8_weight.h"
#include "host/cpu/tile_product.h"
#include "host/grid.h"
#include "host/op_checks.h"

#include <cmath>

namespace ptq {

namespace {

// Calls f(row number, row as fp32) for all rows, in parallel; the row may be overwritten.
template <class T, class F>
void for_each_row(const Tensor& x, int threads, F&& f) {
  const std::int64_t n = x.cols();
  const T* in = x.data<T>();
  parallel_ranges(threads, x.rows(), 16, [&](std::int64_t begin, std::int64_t end) {
    float* row = scratch<float>(0, static_cast<std::size_t>(n));
    for (std::int64_t r = begin; r < end; ++r) {
      simd::to_floats(in + r * n, row, n);
      f(r, row);
    }
  });
}

// The range of row r: given, or the row's own. `given` [T] f32 or empty.
float range_of(const Tensor& given, std::int64_t r, const float* row, std::int64_t n) {
  if (!given) return absmax_of(row, n);
  return std::isfinite(absmax_of(row, n)) ? given.data<float>()[r] : std::numeric_limits<float>::quiet_NaN();
}

}  // namespace

float absmax_of(const float* x, std::int64_t n) {
  std::uint32_t largest = 0;  // of |x| as bits, whose order is that of the values, infinity and NaN last
  for (std::int64_t i = 0; i < n; ++i) largest = std::max(largest, std::bit_cast<std::uint32_t>(x[i]) & 0x7fffffffu);
  return std::bit_cast<float>(largest);
}

float quantize_row(const float* x, std::int64_t n, float absmax, int bits, std::int8_t* codes) {
  if (!std::isfinite(absmax)) {
    std::memset(codes, 0, static_cast<std::size_t>(n));
    return std::numeric_limits<float>::quiet_NaN();
  }
  const float scale = absmax_scale(absmax, bits);
  for (std::int64_t i = 0; i < n; ++i) codes[i] = static_cast<std::int8_t>(absmax_code(x[i], scale, bits));
  return scale;
}

void CpuOps::row_absmax(const Tensor& absmax, const Tensor& x) {
  op_checks::row_absmax(absmax, x);
  auto* out = absmax.data<float>();
  simd::dispatch(x.dtype(), [&](auto* type) {
    for_each_row<std::remove_pointer_t<decltype(type)>>(
        x, threads_, [&](std::int64_t r, const float* row) { out[r] = absmax_of(row, x.cols()); });
  });
}

Int8Rows CpuOps::quantize_rows(const Tensor& x, int bits, const Tensor& absmax) {
  op_checks::quantize_rows("quantize_rows", x, bits, absmax);
  const std::int64_t n = x.cols();
  Int8Rows out{Tensor::empty(DType::i8, {x.rows(), n}), Tensor::empty(DType::f32, {x.rows()}), {}, {}};
  auto* codes = out.codes.data<std::int8_t>();
  auto* scales = out.scales.data<float>();
  simd::dispatch(x.dtype(), [&](auto* type) {
    for_each_row<std::remove_pointer_t<decltype(type)>>(x, threads_, [&](std::int64_t r, const float* row) {
      scales[r] = quantize_row(row, n, range_of(absmax, r, row, n), bits, codes + r * n);
    });
  });
  return out;
}

void CpuOps::fake_quantize_rows(const Tensor& y, const Tensor& x, int bits, const Tensor& absmax) {
  op_checks::fake_quantize_rows(y, x, bits, absmax);
  const std::int64_t n = x.cols();
  simd::dispatch(x.dtype(), [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    T* out = y.data<T>();
    for_each_row<T>(x, threads_, [&](std::int64_t r, float* row) {
      std::int8_t* codes = scratch<std::int8_t>(0, static_cast<std::size_t>(n));
      const float scale = quantize_row(row, n, range_of(absmax, r, row, n), bits, codes);
      for (std::int64_t i = 0; i < n; ++i) row[i] = static_cast<float>(codes[i]) * scale;
      simd::from_floats(row, out + r * n, n);
    });
  });
}

WeightPtr CpuOps::pack_s8(const Tensor& codes, const Tensor& scales) {
  return std::make_shared<Int8Weight>(codes, scales, threads_);
}

void CpuOps::linear_s8(const Tensor& y, const Int8Rows& x, const Weight& weight, const Tensor& b) {
  const Int8Weight& w = packed_int8(weight);
  const std::int64_t n = w.out_features();
  op_checks::linear_s8(y, x, w, b);
  const float* bias = b ? b.data<float>() : nullptr;
  const float* row_scale = x.scales.data<float>();

  const std::int64_t outliers = x.outlier_columns ? x.outlier_columns.numel() : 0;
  Buffer<float> outlier_weights(static_cast<std::size_t>(outliers * n));
  if (outliers > 0) {
    const std::span<const std::int32_t> columns = x.outlier_columns.span<std::int32_t>();
    for (std::int32_t c : columns) check(0 <= c && c < w.in_features(), "linear_s8: outlier column {}", c);
    w.gather_columns(columns, outlier_weights.data(), threads_);
  }
  simd::dispatch(y.dtype(), [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    T* out = y.data<T>();
    for_each_block<std::int32_t>(
        w, {x.codes, {}}, threads_,
        [&](std::int64_t first, std::int64_t count, const Panel& panel, std::int64_t, const std::int32_t* c) {
          const std::int64_t width = panel.width;
          const float* column_scale = w.scales() + panel.begin;
          constexpr std::int64_t step = 6;  // rows whose sums stay in the first-level cache
          float* sums = scratch<float>(0, static_cast<std::size_t>(step * width));
          for (std::int64_t r0 = 0; r0 < count; r0 += step) {
            const std::int64_t rows = std::min(step, count - r0), row = first + r0;
            for (std::int64_t r = 0; r < rows; ++r) {
              const std::int32_t* exact = c + (r0 + r) * width;
              const float s = row_scale[row + r];
              for (std::int64_t j = 0; j < width; ++j) {
                sums[r * width + j] = static_cast<float>(exact[j]) * (s * column_scale[j]);
              }
            }
            if (outliers > 0) {
              const TileOperands<float, float> more{sums,
                                                    width,
                                                    x.outliers.data<float>() + row * outliers,
                                                    outliers,
                                                    outlier_weights.data() + panel.begin,
                                                    n};
              tile_product<Left::rows, Into::add>(more, rows, width, outliers);
            }
            finish(out + row * n + panel.begin, n, sums, width, rows, width, bias ? bias + panel.begin : nullptr);
          }
        });
  });
}

}  // namespace ptq

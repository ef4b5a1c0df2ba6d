// W8A8: per-token int8 activations (spec C.4) and the integer product.
#include "host/cpu/int8.h"
#include "host/cpu/block_product.h"
#include "host/cpu/cpu_ops.h"
#include "host/grid.h"

#include <cmath>

namespace ptq {

float quantize_int8_row(const float* x, std::int64_t n, std::int8_t* codes) {
  std::uint32_t largest = 0;  // of |x| as bits, whose order is that of the values, infinity and NaN last
  for (std::int64_t i = 0; i < n; ++i) largest = std::max(largest, std::bit_cast<std::uint32_t>(x[i]) & 0x7fffffffu);
  const auto absmax = std::bit_cast<float>(largest);
  if (!std::isfinite(absmax)) {
    std::memset(codes, 0, static_cast<std::size_t>(n));
    return std::numeric_limits<float>::quiet_NaN();
  }
  const float scale = int8_scale(absmax);
  for (std::int64_t i = 0; i < n; ++i) {
    codes[i] = static_cast<std::int8_t>(static_cast<int>(std::nearbyint(x[i] / scale)));
  }
  return scale;
}

Int8Rows CpuOps::quantize_rows(const Tensor& x) {
  const std::int64_t rows = x.rows(), n = x.cols();
  Int8Rows out{Tensor::empty(DType::i8, {rows, n}), Tensor::empty(DType::f32, {rows})};
  auto* codes = out.codes.data<std::int8_t>();
  auto* scales = out.scales.data<float>();
  simd::dispatch(x.dtype(), [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const T* in = x.data<T>();
    parallel_ranges(threads_, rows, 16, [&](std::int64_t begin, std::int64_t end) {
      float* row = scratch<float>(0, static_cast<std::size_t>(n));
      for (std::int64_t r = begin; r < end; ++r) {
        simd::to_floats(in + r * n, row, n);
        scales[r] = quantize_int8_row(row, n, codes + r * n);
      }
    });
  });
  return out;
}

void CpuOps::linear_s8(const Tensor& y, const Int8Rows& x, const Weight& weight, const Tensor& b) {
  const PackedWeight& w = packed(weight);
  const std::int64_t n = w.out_features();
  check(w.format() == WeightFormat::s8, "linear_s8: the weight is not int8");
  check(y.cols() == n && y.rows() == x.codes.rows() && x.scales.numel() == y.rows(),
        "linear_s8: y {}, codes {}, scales {}, N = {}", to_string(y.shape()), to_string(x.codes.shape()),
        to_string(x.scales.shape()), n);
  check(!b || b.numel() == n, "linear_s8: bias {} for N = {}", to_string(b.shape()), n);
  const float* bias = b ? b.data<float>() : nullptr;
  const float* row_scale = x.scales.data<float>();
  simd::dispatch(y.dtype(), [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    T* out = y.data<T>();
    for_each_block<std::int32_t>(
        w, {x.codes, {}}, threads_,
        [&](std::int64_t first, std::int64_t count, const Panel& panel, std::int64_t, const std::int32_t* c) {
          const float* column_scale = w.scales() + panel.begin;
          float* row = scratch<float>(0, static_cast<std::size_t>(panel.width));
          for (std::int64_t r = 0; r < count; ++r) {
            const float s = row_scale[first + r];
            for (std::int64_t j = 0; j < panel.width; ++j) {
              row[j] = static_cast<float>(c[r * panel.width + j]) * (s * column_scale[j]);
            }
            if (bias != nullptr) {
              for (std::int64_t j = 0; j < panel.width; ++j) row[j] += bias[panel.begin + j];
            }
            simd::from_floats(row, out + (first + r) * n + panel.begin, panel.width);
          }
        });
  });
}

}  // namespace ptq

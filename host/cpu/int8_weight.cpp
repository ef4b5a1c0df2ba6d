#include "host/cpu/int8_weight.h"

#include "host/cpu/int8.h"
#include "host/cpu/simd.h"
#include "host/op_checks.h"

#include <cstring>

namespace ptq {

Int8Weight::Int8Weight(std::int64_t n, std::int64_t i) : PackedWeight(n, i, WeightFormat::s8, DType::i8) {
  op_checks::int8_width(i);  // 255 * 128 * 65536 < 2^31 too: the library shifts one operand to unsigned
  scales_.resize(static_cast<std::size_t>(n));
}

Int8Weight::Int8Weight(const Tensor& w, int threads) : Int8Weight(w.rows(), w.cols()) {
  check(w.rank() == 2, "pack: weight of shape {}", to_string(w.shape()));
  const std::int64_t i = in_features();
  simd::dispatch(w.dtype(), [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    parallel_for(threads, static_cast<std::int64_t>(panels_.size()), [&](std::int64_t p) {
      Panel& panel = panels_[static_cast<std::size_t>(p)];
      Buffer<std::int8_t> codes(static_cast<std::size_t>(panel.width * i));
      float* row = scratch<float>(0, static_cast<std::size_t>(i));
      for (std::int64_t r = 0; r < panel.width; ++r) {
        simd::to_floats(w.data<T>() + (panel.begin + r) * i, row, i);
        scales_[panel.begin + r] = quantize_row(row, i, absmax_of(row, i), 8, codes.data() + r * i);
      }
      pack(panel, codes.data());
    });
  });
}

Int8Weight::Int8Weight(const Tensor& codes, const Tensor& scales, int threads)
    : Int8Weight(codes.rows(), codes.cols()) {
  op_checks::pack_s8(codes, scales);
  std::copy_n(scales.data<float>(), codes.rows(), scales_.data());
  const std::int8_t* rows = codes.data<std::int8_t>();
  parallel_for(threads, static_cast<std::int64_t>(panels_.size()), [&](std::int64_t p) {
    Panel& panel = panels_[static_cast<std::size_t>(p)];
    pack(panel, rows + panel.begin * in_features());
  });
}

void Int8Weight::pack(Panel& panel, const std::int8_t* codes) {
  if (panel.product) {
    panel.data.resize(panel.product->weight_bytes());
    panel.product->reorder(codes, panel.data.data());
  } else {
    const auto size = static_cast<std::size_t>(panel.width * in_features());
    panel.data.resize(size);
    std::memcpy(panel.data.data(), codes, size);
  }
}

std::size_t Int8Weight::bytes() const {
  std::size_t sum = static_cast<std::size_t>(out_features()) * sizeof(float);
  for (const Panel& panel : panels_) sum += panel.data.size();
  return sum;
}

void Int8Weight::multiply(const Panel& panel, std::int64_t rows, const void* x, const void* weights, void* c) const {
  if (panel.product) return PackedWeight::multiply(panel, rows, x, weights, c);
  const std::int64_t i = in_features();
  const auto* a = static_cast<const std::int8_t*>(x);
  const auto* b = static_cast<const std::int8_t*>(weights);
  for (std::int64_t t = 0; t < rows; ++t) {
    for (std::int64_t n = 0; n < panel.width; ++n) {
      std::int32_t sum = 0;
      for (std::int64_t k = 0; k < i; ++k) sum += a[t * i + k] * b[n * i + k];
      static_cast<std::int32_t*>(c)[t * panel.width + n] = sum;
    }
  }
}

void Int8Weight::gather_columns(std::span<const std::int32_t> columns, float* to, int threads) const {
  parallel_for(threads, static_cast<std::int64_t>(columns.size()), [&](std::int64_t c) {
    const std::int64_t k = columns[static_cast<std::size_t>(c)];
    for (const Panel& panel : panels_) {
      const auto* codes = reinterpret_cast<const std::int8_t*>(panel.data.data());
      for (std::int64_t j = 0; j < panel.width; ++j) {
        const std::int8_t code = panel.product ? codes[panel.product->layout().k_at[static_cast<std::size_t>(k)] +
                                                       panel.product->layout().n_at[static_cast<std::size_t>(j)]]
                                               : codes[j * in_features() + k];
        const std::int64_t n = panel.begin + j;
        to[c * out_features() + n] = static_cast<float>(code) * scales_[n];
      }
    }
  });
}

const Int8Weight& packed_int8(const Weight& w) {
  const auto* p = dynamic_cast<const Int8Weight*>(&w);
  check(p != nullptr, "linear_s8: the weight is not int8, or belongs to another backend");
  return *p;
}

}  // namespace ptq

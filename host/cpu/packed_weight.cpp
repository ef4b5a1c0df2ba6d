#include "host/cpu/packed_weight.h"

#include "host/cpu/simd.h"
#include "host/cpu/tile_product.h"

#include <cstring>
#include <map>

namespace ptq {

namespace {

// Panels of equal width, a multiple of 64, at most 512.
std::vector<Panel> split(std::int64_t n) {
  constexpr std::int64_t most = 512, unit = strip_width;
  const std::int64_t count = (n + most - 1) / most;
  const std::int64_t width = ((n + count - 1) / count + unit - 1) / unit * unit;
  std::vector<Panel> panels;
  for (std::int64_t begin = 0; begin < n; begin += width) {
    Panel panel;
    panel.begin = begin;
    panel.width = std::min(width, n - begin);
    panels.push_back(std::move(panel));
  }
  return panels;
}

DType operand_of(DType input) {
  if (input == DType::i8 || (input == DType::bf16 && has_bf16_products())) return input;
  return DType::f32;
}

template <class Half>
void halve(const float* from, std::byte* to, std::size_t n) {
  simd::from_floats(from, reinterpret_cast<Half*>(to), static_cast<std::int64_t>(n));
}

template <class Half>
void widen(const std::byte* from, float* to, std::size_t begin, std::size_t end) {
  simd::to_floats(reinterpret_cast<const Half*>(from) + begin, to + begin, static_cast<std::int64_t>(end - begin));
}

// Two rows of W^T whose elements alternate, as bf16 products want them.
void separate(const bf16* pairs, float* even, float* odd, std::int64_t n) {
  static_assert(strip_width % simd::lanes == 0);
  std::int64_t j = 0;
  for (; j + simd::lanes <= n; j += simd::lanes) {
    simd::vint both;
    std::memcpy(&both, pairs + 2 * j, sizeof both);
    simd::store(even + j, (simd::vfloat)(both << 16));
    simd::store(odd + j, (simd::vfloat)(both & static_cast<std::int32_t>(0xffff0000)));
  }
  for (; j < n; ++j) {
    even[j] = to_float(pairs[2 * j]);
    odd[j] = to_float(pairs[2 * j + 1]);
  }
}

}  // namespace

DType input_type(WeightFormat format) {
  switch (format) {
    case WeightFormat::bf16:
      return DType::bf16;
    case WeightFormat::f16:
      return DType::f16;
    case WeightFormat::s8:
      return DType::i8;
    default:
      return DType::f32;
  }
}

PackedWeight::PackedWeight(std::int64_t n, std::int64_t i, WeightFormat format, DType input)
    : n_(n), i_(i), format_(format), input_(input), operand_(operand_of(input)) {
  check(n > 0 && i > 0, "pack: weight of shape [{},{}]", n, i);
  panels_ = split(n);
  if (input == DType::i8 && !has_int8_products()) return;
  std::map<std::int64_t, Panel> by_width;
  for (Panel& panel : panels_) {
    Panel& known = by_width[panel.width];
    if (!known.product) {
      known.product = std::make_shared<const Product>(row_tile, i_, panel.width, operand_);
      if (operand_ == DType::i8)
        known.few = std::make_shared<const Product>(few_row_tile, i_, panel.width, operand_, known.product.get());
    }
    panel.product = known.product;
    panel.few = known.few;
  }
}

void PackedWeight::multiply(const Panel& panel, std::int64_t rows, const void* x, const void* weights, void* c) const {
  (rows == row_tile ? panel.product : panel.few)->run(x, weights, c);
}

void PackedWeight::expand(const Panel&, std::byte*, std::int64_t, std::int64_t) const {
  check(false, "this weight is not expanded");
}

Strip PackedWeight::strip(const Panel&, std::int64_t, std::int64_t, std::int64_t, float*) const {
  check(false, "this weight has no floats");
  return {};
}

void PackedWeight::multiply_strip(const Panel& panel, std::int64_t n, const float* x, std::int64_t rows,
                                  float* sums) const {
  float* buffer = scratch<float>(1, static_cast<std::size_t>(strip_depth * strip_width));
  std::fill(sums, sums + rows * strip_width, 0.0f);
  for (std::int64_t k = 0; k < i_; k += strip_depth) {
    const std::int64_t depth = std::min(strip_depth, i_ - k);
    const Strip w = strip(panel, n, k, k + depth, buffer);
    const TileOperands<float, float> product{sums, strip_width, x + k, i_, w.data, w.row};
    tile_product<Left::rows, Into::add>(product, rows, w.width, depth);
  }
}

FloatWeight::FloatWeight(const Tensor& w, WeightFormat format, int threads)
    : PackedWeight(w.rows(), w.cols(), format, input_type(format)) {
  check(w.rank() == 2, "pack: weight of shape {}", to_string(w.shape()));
  parallel_for(threads, static_cast<std::int64_t>(panels_.size()),
               [&](std::int64_t p) { pack(panels_[static_cast<std::size_t>(p)], w); });
}

std::size_t FloatWeight::bytes() const {
  std::size_t sum = 0;
  for (const Panel& panel : panels_) sum += panel.product->weight_bytes() / size_of(operand()) * size_of(input());
  return sum;
}

void FloatWeight::pack(Panel& panel, const Tensor& w) const {
  const std::size_t size = panel.product->weight_bytes();
  const Tensor rows = w.slice_rows(panel.begin, panel.begin + panel.width).to(input()).to(operand());
  if (!expanded()) {
    panel.data.resize(size);
    panel.product->reorder(rows.raw(), panel.data.data());
    return;
  }
  const std::size_t elements = size / sizeof(float);
  Buffer<float> blocked(elements);
  panel.product->reorder(rows.raw(), blocked.data());
  panel.data.resize(elements * 2);
  if (input() == DType::f16) {
    halve<f16>(blocked.data(), panel.data.data(), elements);
  } else {
    halve<bf16>(blocked.data(), panel.data.data(), elements);
  }
}

void FloatWeight::expand(const Panel& panel, std::byte* to, std::int64_t part, std::int64_t parts) const {
  const std::size_t elements = expanded_bytes(panel) / sizeof(float), n = static_cast<std::size_t>(parts);
  const std::size_t begin = elements * static_cast<std::size_t>(part) / n,
                    end = elements * static_cast<std::size_t>(part + 1) / n;
  if (input() == DType::f16) {
    widen<f16>(panel.data.data(), reinterpret_cast<float*>(to), begin, end);
  } else {
    widen<bf16>(panel.data.data(), reinterpret_cast<float*>(to), begin, end);
  }
}

Strip FloatWeight::strip(const Panel& panel, std::int64_t n, std::int64_t k0, std::int64_t k1, float* buffer) const {
  const Layout& layout = panel.product->layout();
  const std::int64_t width = std::min(strip_width, panel.width - n);
  const std::int64_t* k_at = layout.k_at.data();
  const std::int64_t column = layout.n_at[static_cast<std::size_t>(n)];
  const std::int64_t row = k1 - k0 > 1 ? k_at[k0 + 1] - k_at[k0] : 0;
  if (operand() == input() && operand() == DType::f32 && layout.columns_apart(n, width, 1) &&
      k_at[k1 - 1] - k_at[k0] == (k1 - 1 - k0) * row) {
    return {reinterpret_cast<const float*>(panel.data.data()) + k_at[k0] + column, row, width};
  }
  const bool pairs = operand() == DType::bf16 && layout.paired(n, width);
  simd::dispatch(input(), [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const T* data = reinterpret_cast<const T*>(panel.data.data());
    for (std::int64_t k = k0; k < k1; ++k) {
      float* to = buffer + (k - k0) * strip_width;
      if constexpr (std::is_same_v<T, bf16>) {
        if (pairs) {  // k0 is even, and so is the padded number of rows
          separate(data + k_at[k] + column, to, to + strip_width, width);
          ++k;
          continue;
        }
      }
      if (layout.columns_apart(n, width, 1)) {
        simd::to_floats(data + k_at[k] + column, to, width);
      } else {
        for (std::int64_t j = 0; j < width; ++j) {
          to[j] = to_float(data[k_at[k] + layout.n_at[static_cast<std::size_t>(n + j)]]);
        }
      }
    }
  });
  return {buffer, strip_width, width};
}

const PackedWeight& packed(const Weight& w) {
  const auto* p = dynamic_cast<const PackedWeight*>(&w);
  check(p != nullptr, "the weight belongs to another backend");
  return *p;
}

}  // namespace ptq

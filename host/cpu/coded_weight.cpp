#include "host/cpu/coded_weight.h"

#include "host/cpu/simd.h"

#include <algorithm>
#include <cstring>

namespace ptq {

namespace {

using simd::vfloat;
using simd::vint;

static_assert(strip_width % simd::lanes == 0);
constexpr int vectors = strip_width / simd::lanes;  // of a strip

WeightFormat format_of(const CodedWeight& w) { return w.bits <= 4 ? WeightFormat::u4 : WeightFormat::u8; }

bool all_f16(const Tensor& t) {
  const std::span<const float> x = t.span<float>();
  return std::all_of(x.begin(), x.end(), [](float v) { return to_float(to_f16(v)) == v; });
}

// Two rows of W^T, already rounded to bf16, with alternating elements.
void interleave(const float* even, const float* odd, bf16* pairs, std::int64_t n) {
  for (std::int64_t j = 0; j < n; ++j) {
    const std::uint32_t lo = std::bit_cast<std::uint32_t>(even[j]) >> 16,
                        both = (std::bit_cast<std::uint32_t>(odd[j]) & 0xffff0000u) | lo;
    std::memcpy(pairs + 2 * j, &both, sizeof both);
  }
}

// Writes rows [k0, k1) of W^T, columns [n, n + count), into the library's layout. rows [k1 - k0][strip_width]; k0 even.
template <class T>
void place(const Layout& layout, std::int64_t k0, std::int64_t k1, std::int64_t n, std::int64_t count,
           const float* rows, T* to) {
  const bool together = layout.columns_apart(n, count, 1);
  [[maybe_unused]] const bool paired = layout.paired(n, count);
  const std::int64_t *k_at = layout.k_at.data(), *n_at = layout.n_at.data() + n;
  for (std::int64_t k = k0; k < k1; ++k, rows += strip_width) {
    if constexpr (std::is_same_v<T, bf16>) {
      if (paired) {
        interleave(rows, rows + strip_width, to + k_at[k] + n_at[0], count);
        ++k, rows += strip_width;
        continue;
      }
    }
    if (together) {
      simd::from_floats(rows, to + k_at[k] + n_at[0], count);
    } else {
      for (std::int64_t j = 0; j < count; ++j) to[k_at[k] + n_at[j]] = from_float<T>(rows[j]);
    }
  }
}

}  // namespace

CodedPanels::CodedPanels(const CodedWeight& w, DType compute, int threads)
    : PackedWeight(w.codes.rows(), w.codes.cols(), format_of(w), compute) {
  const std::int64_t n = out_features(), i = in_features();
  groups_ = w.scales.cols();
  strips_ = (n + strip_width - 1) / strip_width;
  words_ = (i * code_bits() + 31) / 32;
  group_.resize(static_cast<std::size_t>(i));
  for (std::int64_t k = 0; k < i; ++k) {
    group_[k] = w.g_idx.data<std::int32_t>()[k];
  }
  codes_.resize(static_cast<std::size_t>(strips_ * words_ * strip_width));
  half_grids_ = all_f16(w.scales) && all_f16(w.zeros);
  const auto grids = static_cast<std::size_t>(strips_ * groups_ * 2 * strip_width);
  half_grids_ ? grids_of_f16_.resize(grids) : grids_.resize(grids);
  parallel_for(threads, strips_, [&](std::int64_t s) { pack(s, w); });
}

void CodedPanels::pack(std::int64_t strip, const CodedWeight& w) {
  const std::int64_t i = in_features(), per_word = 32 / code_bits();
  std::uint32_t* words = codes_.data() + strip * words_ * strip_width;
  std::fill(words, words + words_ * strip_width, 0u);
  Buffer<float> grids(static_cast<std::size_t>(groups_ * 2 * strip_width));
  std::fill(grids.data(), grids.data() + groups_ * 2 * strip_width, 0.0f);  // of rows beyond N: 0 * (0 - 0)
  const std::int64_t rows = std::min(strip_width, out_features() - strip * strip_width);
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t n = strip * strip_width + r;
    const std::uint8_t* codes = w.codes.data<std::uint8_t>() + n * i;
    for (std::int64_t k = 0; k < i; ++k) {
      words[k / per_word * strip_width + r] |= std::uint32_t{codes[k]} << (k % per_word * code_bits());
    }
    for (std::int64_t g = 0; g < groups_; ++g) {
      grids[2 * g * strip_width + r] = w.scales.data<float>()[n * groups_ + g];
      grids[(2 * g + 1) * strip_width + r] = w.zeros.data<float>()[n * groups_ + g];
    }
  }
  const std::int64_t at = strip * groups_ * 2 * strip_width, count = groups_ * 2 * strip_width;
  if (half_grids_) {
    simd::from_floats(grids.data(), grids_of_f16_.data() + at, count);
  } else {
    simd::from_floats(grids.data(), grids_.data() + at, count);
  }
}

std::size_t CodedPanels::bytes() const {
  return codes_.size() * sizeof(std::uint32_t) + grids_.size() * sizeof(float) + grids_of_f16_.size() * sizeof(f16) +
         group_.size() * sizeof(std::int32_t);
}

template <class Compute, int bits, class Grid, class Use>
void CodedPanels::for_each_value(std::int64_t strip, std::int64_t k0, std::int64_t k1, const Grid* grids,
                                 Use&& use) const {
  constexpr std::int64_t per_word = 32 / bits;
  constexpr std::int32_t mask = (1 << bits) - 1;
  const std::uint32_t* words = codes_.data() + (strip * words_ + k0 / per_word) * strip_width;
  grids += strip * groups_ * 2 * strip_width;
  vfloat scale[vectors] = {}, zero[vectors] = {};
  std::int32_t group = -1;  // whose scale and zero these are
  for (std::int64_t k = k0; k < k1; words += strip_width) {
    vint word[vectors];
    std::memcpy(word, words, sizeof word);
    for (const std::int64_t end = std::min(k + per_word, k1); k < end; ++k) {
      if (group_[k] != group) {
        group = group_[k];
        const Grid* grid = grids + std::int64_t{group} * 2 * strip_width;
#pragma GCC unroll 16
        for (int v = 0; v < vectors; ++v) {
          scale[v] = simd::widened(grid + v * simd::lanes);
          zero[v] = simd::widened(grid + strip_width + v * simd::lanes);
        }
      }
#pragma GCC unroll 16
      for (int v = 0; v < vectors; ++v) {
        const vfloat code = __builtin_convertvector(word[v] & mask, vfloat);
        use(k, v, simd::round_to<Compute>(scale[v] * (code - zero[v])));
        word[v] >>= bits;
      }
    }
  }
}

template <class Use>
void CodedPanels::for_each_value(std::int64_t strip, std::int64_t k0, std::int64_t k1, Use&& use) const {
  simd::dispatch(input(), [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    if (code_bits() == 4) {
      half_grids_ ? for_each_value<T, 4>(strip, k0, k1, grids_of_f16_.data(), use)
                  : for_each_value<T, 4>(strip, k0, k1, grids_.data(), use);
    } else {
      half_grids_ ? for_each_value<T, 8>(strip, k0, k1, grids_of_f16_.data(), use)
                  : for_each_value<T, 8>(strip, k0, k1, grids_.data(), use);
    }
  });
}

Strip CodedPanels::strip(const Panel& panel, std::int64_t n, std::int64_t k0, std::int64_t k1, float* buffer) const {
  for_each_value((panel.begin + n) / strip_width, k0, k1, [&](std::int64_t k, int v, vfloat value) {
    simd::store(buffer + (k - k0) * strip_width + v * simd::lanes, value);
  });
  return {buffer, strip_width, strip_width};
}

// One row: values go from the codes straight into the sums, in the order of the base.
void CodedPanels::multiply_strip(const Panel& panel, std::int64_t n, const float* x, std::int64_t rows,
                                 float* sums) const {
  if (rows != 1) return PackedWeight::multiply_strip(panel, n, x, rows, sums);
  vfloat total[vectors] = {};
  for (std::int64_t k0 = 0; k0 < in_features(); k0 += strip_depth) {
    vfloat sum[vectors] = {};
    for_each_value((panel.begin + n) / strip_width, k0, std::min(k0 + strip_depth, in_features()),
                   [&](std::int64_t k, int v, vfloat value) { sum[v] = simd::fma(simd::splat(x[k]), value, sum[v]); });
    for (int v = 0; v < vectors; ++v) total[v] += sum[v];
  }
  std::memcpy(sums, total, sizeof total);
}

void CodedPanels::expand(const Panel& panel, std::byte* to, std::int64_t part, std::int64_t parts) const {
  constexpr std::int64_t chunk = 16;
  const Layout& layout = panel.product->layout();
  const auto depth = static_cast<std::int64_t>(layout.k_at.size());
  const auto width = static_cast<std::int64_t>(layout.n_at.size());
  const std::int64_t chunks = (depth + chunk - 1) / chunk;
  float rows[chunk * strip_width];
  for (std::int64_t n = 0; n < width; n += strip_width) {
    const std::int64_t count = std::min(strip_width, width - n);
    for (std::int64_t i = chunks * part / parts; i < chunks * (part + 1) / parts; ++i) {
      const std::int64_t k0 = i * chunk, k1 = std::min(k0 + chunk, depth);
      const std::int64_t real = n < panel.width ? std::clamp(in_features(), k0, k1) - k0 : 0;  // the rest is padding
      if (real > 0) strip(panel, n, k0, k0 + real, rows);
      std::fill(rows + real * strip_width, rows + chunk * strip_width, 0.0f);
      if (operand() == DType::bf16) {
        place(layout, k0, k1, n, count, rows, reinterpret_cast<bf16*>(to));
      } else {
        place(layout, k0, k1, n, count, rows, reinterpret_cast<float*>(to));
      }
    }
  }
}

}  // namespace ptq

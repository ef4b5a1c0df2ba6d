// Random weights as integer codes, for the tests of pack_codes.
#pragma once

#include "backends.h"

#include <algorithm>

namespace ptq::testing {

enum class Grouping { runs, shuffled };  // of columns: in order, or any (act-order)

// n x i codes of `bits` bits with `group` columns per grid (-1: whole row). Scales are f16 numbers for even seeds.
inline CodedWeight random_codes(int bits, std::int64_t n, std::int64_t i, std::int64_t group, unsigned seed,
                                Grouping grouping = Grouping::runs) {
  std::mt19937 generator(seed);
  const std::int64_t groups = group < 0 ? 1 : (i + group - 1) / group;
  CodedWeight w{bits, Tensor::empty(DType::u8, {n, i}), random(DType::f32, {n, groups}, seed + 1, Data::positive),
                Tensor::empty(DType::f32, {n, groups}), Tensor::empty(DType::i32, {i})};
  const unsigned levels = 1u << bits;
  for (std::uint8_t& code : w.codes.span<std::uint8_t>()) code = static_cast<std::uint8_t>(generator() % levels);
  for (float& zero : w.zeros.span<float>()) zero = static_cast<float>(generator() % levels);
  const std::span<std::int32_t> g = w.g_idx.span<std::int32_t>();
  for (std::int64_t k = 0; k < i; ++k) g[static_cast<std::size_t>(k)] = static_cast<std::int32_t>(k * groups / i);
  if (seed % 2 == 0) w.scales = w.scales.to(DType::f16).to(DType::f32);
  if (grouping == Grouping::shuffled) std::shuffle(g.begin(), g.end(), generator);
  return w;
}

// scale * (code - zero) in fp32.
inline Tensor dequantized(const CodedWeight& w) {
  const std::int64_t n = w.codes.rows(), i = w.codes.cols(), groups = w.scales.cols();
  Tensor out = Tensor::empty(DType::f32, {n, i});
  for (std::int64_t r = 0; r < n; ++r) {
    for (std::int64_t k = 0; k < i; ++k) {
      const std::int64_t at = r * groups + w.g_idx.data<std::int32_t>()[k];
      const auto code = static_cast<float>(w.codes.data<std::uint8_t>()[r * i + k]);
      out.data<float>()[r * i + k] = w.scales.data<float>()[at] * (code - w.zeros.data<float>()[at]);
    }
  }
  return out;
}

constexpr DType compute_dtypes[] = {DType::f32, DType::bf16, DType::f16};

inline WeightFormat float_format(DType t) {
  return t == DType::f32 ? WeightFormat::f32 : t == DType::bf16 ? WeightFormat::bf16 : WeightFormat::f16;
}

}  // namespace ptq::testing

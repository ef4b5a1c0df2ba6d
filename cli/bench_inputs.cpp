#include "cli/bench_inputs.h"

#include <algorithm>
#include <cmath>

namespace ptq {

Tensor bench_activations(DType dtype, std::int64_t rows, std::int64_t columns, std::uint64_t seed, float deviation) {
  const Tensor t = Tensor::empty(DType::f32, {rows, columns});
  std::uint64_t state = 0x9e3779b97f4a7c15u + seed;
  float* x = t.data<float>();
  for (std::int64_t i = 0; i < t.numel(); ++i) {
    float sum = 0.0f;  // of four uniform numbers: near enough to normal
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    for (int part = 0; part < 4; ++part) sum += static_cast<float>(state >> (16 * part) & 0xffffu) / 65536.0f - 0.5f;
    x[i] = sum * 1.732f * deviation * (i % columns % 500 == 77 ? 20.0f : 1.0f);
  }
  return t.to(dtype);
}

Tensor bench_weights(DType dtype, std::int64_t n, std::int64_t i) {
  constexpr std::uint64_t seed = 2;
  return bench_activations(dtype, n, i, seed, 0.02f);
}

CodedWeight bench_codes(int bits, std::int64_t n, std::int64_t i) {
  constexpr std::int64_t group = 128;
  CodedWeight w{bits,
                Tensor::empty(DType::u8, {n, i}),
                Tensor::empty(DType::f32, {n, (i + group - 1) / group}),
                {},
                Tensor::empty(DType::i32, {i})};
  w.zeros = Tensor::empty(DType::f32, w.scales.shape());
  std::uint64_t state = 7;
  for (std::uint8_t& c : w.codes.span<std::uint8_t>()) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    c = static_cast<std::uint8_t>(state >> (64 - bits));
  }
  std::fill(w.scales.span<float>().begin(), w.scales.span<float>().end(), to_float(to_f16(0.003f)));
  std::fill(w.zeros.span<float>().begin(), w.zeros.span<float>().end(), static_cast<float>(1 << (bits - 1)));
  for (std::int64_t c = 0; c < i; ++c) w.g_idx.data<std::int32_t>()[c] = static_cast<std::int32_t>(c / group);
  return w;
}

Tensor upper_triangle(const Tensor& h) {
  const Tensor u = h.clone();
  const std::int64_t n = u.rows();
  for (std::int64_t r = 0; r < n; ++r) std::fill_n(u.data<float>() + r * n, r, 0.0f);
  return u;
}

Tensor bench_hessian(std::int64_t n) {
  const Tensor h = Tensor::zeros(DType::f32, {n, n});
  std::uint64_t state = 99;
  for (std::int64_t r = 0; r < n; ++r) {
    for (std::int64_t c = r; c < n; ++c) {
      state ^= state << 13, state ^= state >> 7, state ^= state << 17;
      const float x = (static_cast<float>(state >> 40) / 16777216.0f - 0.5f) / std::sqrt(static_cast<float>(n));
      h.data<float>()[r * n + c] = r == c ? 2.0f + x : x;
    }
  }
  return h;
}

double float_tolerance(DType t) { return t == DType::f32 ? 1e-5 : t == DType::f16 ? 2e-3 : 1e-2; }

std::string_view short_name(DType t) {
  return t == DType::bf16 ? "bf16" : t == DType::f16 ? "f16" : t == DType::i8 ? "s8" : "f32";
}

}  // namespace ptq

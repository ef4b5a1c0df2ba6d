// One SIMD vector type: the widest that the compiler targets, with what the CPU kernels need of it. Plain operators
// (+ - * / < ?:) are GCC/Clang vector extensions; this is the only file with intrinsics.
#pragma once

#include "host/dtype.h"
#include "host/error.h"

#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace ptq::simd {

#if defined(__AVX512F__)
using vfloat = __m512;
using vdouble = __m512d;
#elif defined(__AVX__)
using vfloat = __m256;
using vdouble = __m256d;
#else
using vfloat = __m128;
using vdouble = __m128d;
#endif

inline constexpr int lanes = sizeof(vfloat) / sizeof(float);
// How many vectors side by side a register tile holds: 6 x 4 accumulators of 32 registers, 6 x 2 of 16.
inline constexpr int tile_vectors = lanes == 16 ? 4 : 2;
inline constexpr int tile_width = lanes * tile_vectors;

using vint = std::int32_t __attribute__((vector_size(sizeof(vfloat))));

// The vector of an element type, so that a kernel can be written once for float and double.
template <class T>
struct vector_of;
template <>
struct vector_of<float> {
  using type = vfloat;
};
template <>
struct vector_of<double> {
  using type = vdouble;
};

// Two neighbouring terms of a dot product of bf16 numbers. Where the CPU multiplies such pairs (both products exact,
// sums in fp32), tile products take them as elements and run at twice the rate.
struct bf16_pair {
  bf16 lo, hi;
};
template <>
struct vector_of<bf16_pair> {
  using type = vint;
};
#if defined(__AVX512BF16__)
inline constexpr bool has_pairs = true;
#else
inline constexpr bool has_pairs = false;
#endif

template <class T>
using vec = typename vector_of<T>::type;
template <class T>
inline constexpr int width = sizeof(vec<T>) / sizeof(T);

template <class T>
vec<T> load(const T* p) {
  vec<T> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <class T>
void store(T* p, vec<T> v) {
  std::memcpy(p, &v, sizeof v);
}
template <class T>
vec<T> splat(T x) {
  return x - vec<T>{};
}
inline vint splat(bf16_pair x) { return std::bit_cast<std::int32_t>(x) - vint{}; }

// a * b + c, rounded once where the CPU can.
inline vfloat fma(vfloat a, vfloat b, vfloat c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__FMA__)
  return _mm256_fmadd_ps(a, b, c);
#else
  return a * b + c;
#endif
}
inline vdouble fma(vdouble a, vdouble b, vdouble c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_pd(a, b, c);
#elif defined(__FMA__)
  return _mm256_fmadd_pd(a, b, c);
#else
  return a * b + c;
#endif
}

// Pairs: c + a.lo * b.lo + a.hi * b.hi. Only called where has_pairs.
inline vfloat fma(vint a, vint b, vfloat c) {
#if defined(__AVX512BF16__)
  return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b);
#else
  (void)a, (void)b;
  return c;
#endif
}

// Scalar counterparts, for what does not fill a vector: the same bits.
#if defined(__FMA__)
inline float fma(float a, float b, float c) { return std::fma(a, b, c); }
inline double fma(double a, double b, double c) { return std::fma(a, b, c); }
#else
inline float fma(float a, float b, float c) { return a * b + c; }
inline double fma(double a, double b, double c) { return a * b + c; }
#endif
inline float fma(bf16_pair a, bf16_pair b, float c) {
  return std::fma(to_float(a.hi), to_float(b.hi), std::fma(to_float(a.lo), to_float(b.lo), c));
}

// Comparisons with NaN are false: max(NaN, m) = m, and a NaN x passes clamp unchanged.
inline vfloat max(vfloat x, vfloat m) { return x > m ? x : m; }
inline vfloat clamp(vfloat x, float lo, float hi) {
  x = x < splat(lo) ? splat(lo) : x;
  return x > splat(hi) ? splat(hi) : x;
}

// e^x with at most 1 ulp error where the result is normal; NaN stays NaN. x = n ln 2 + r, |r| <= ln(2)/2, Taylor
// polynomial of degree 7 (truncation 5e-9), scaled by 2^n in two steps so that denormal results are rounded once.
inline vfloat exp(vfloat x) {
  x = clamp(x, -105.0f, 89.0f);
  const vfloat magic = splat(12582912.0f);  // 1.5 * 2^23: adding it leaves the rounded integer in the low bits
  const vfloat shifted = fma(x, splat(1.4426950408889634f), magic);
  const vfloat n = shifted - magic;
  const vint ni = (vint)shifted - (vint)magic;
  vfloat r = fma(n, splat(-0.693145751953125f), x);  // ln 2 = 0.693145751953125 + 1.42860682030941723e-6
  r = fma(n, splat(-1.42860682030941723e-6f), r);
  vfloat p = splat(1.0f / 5040.0f);
  p = fma(p, r, splat(1.0f / 720.0f));
  p = fma(p, r, splat(1.0f / 120.0f));
  p = fma(p, r, splat(1.0f / 24.0f));
  p = fma(p, r, splat(1.0f / 6.0f));
  p = fma(p, r, splat(0.5f));
  p = fma(p, r, splat(1.0f));
  p = fma(p, r, splat(1.0f));
  const vint half = ni >> 1;
  return p * (vfloat)((half + 127) << 23) * (vfloat)((ni - half + 127) << 23);
}

// tanh: near 0 a Pade approximant (error below 1e-9 there), else 1 - 2 / (e^2|x| + 1).
inline vfloat tanh(vfloat x) {
  const vfloat a = x < splat(0.0f) ? -x : x;
  const vfloat far = splat(1.0f) - splat(2.0f) / (exp(a + a) + splat(1.0f));
  const vfloat s = x * x;
  const vfloat near =
      x * fma(s + splat(105.0f), s, splat(945.0f)) / fma(fma(s, splat(15.0f), splat(420.0f)), s, splat(945.0f));
  return a < splat(0.55f) ? near : (x < splat(0.0f) ? -far : far);
}

inline vfloat infinity() { return splat(std::numeric_limits<float>::infinity()); }

#if defined(__AVX512F__)
inline constexpr __mmask16 all_lanes = 0xffff;  // unmasked conversions of halves make GCC 12 warn (bug 105593)
#endif

// --- rows of any activation dtype to and from fp32 -------------------------------------------------------------

inline void to_floats(const float* from, float* to, std::int64_t n) {
  std::memcpy(to, from, static_cast<std::size_t>(n) * sizeof(float));
}
inline void to_floats(const bf16* from, float* to, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) to[i] = to_float(from[i]);
}
inline void to_floats(const f16* from, float* to, std::int64_t n) {
  std::int64_t i = 0;
#if defined(__F16C__)
  for (; i + 8 <= n; i += 8) {
    _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i))));
  }
#endif
  for (; i < n; ++i) to[i] = to_float(from[i]);
}

// One vector of them.
inline vfloat widened(const float* p) { return load(p); }
inline vfloat widened(const f16* p) {
#if defined(__AVX512F__)
  return _mm512_maskz_cvtph_ps(all_lanes, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#else
  float wide[lanes];
  to_floats(p, wide, lanes);
  return load(wide);
#endif
}

inline void from_floats(const float* from, float* to, std::int64_t n) { to_floats(from, to, n); }
inline void from_floats(const float* from, bf16* to, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {  // to_bf16 without a branch, which vectorises
    const auto u = std::bit_cast<std::uint32_t>(from[i]);
    const std::uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    const std::uint32_t quiet = (u >> 16) | 0x40u;
    to[i].bits = static_cast<std::uint16_t>((u & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
  }
}
inline void from_floats(const float* from, f16* to, std::int64_t n) {
  std::int64_t i = 0;
#if defined(__F16C__)
  for (; i + 8 <= n; i += 8) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i),
                     _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT));
  }
#endif
  for (; i < n; ++i) to[i] = to_f16(from[i]);
}

// x rounded to T and widened again; T is float, bf16 (NaN does not survive) or f16.
template <class T>
vfloat round_to(vfloat x) {
  if constexpr (std::is_same_v<T, bf16>) {
    const vint u = (vint)x;
    return (vfloat)((u + 0x7fff + ((u >> 16) & 1)) & static_cast<std::int32_t>(0xffff0000));
  } else if constexpr (std::is_same_v<T, f16>) {
#if defined(__AVX512F__)
    return _mm512_maskz_cvtph_ps(all_lanes, _mm512_maskz_cvtps_ph(all_lanes, x, _MM_FROUND_TO_NEAREST_INT));
#elif defined(__F16C__)
    return _mm256_cvtph_ps(_mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
#else
    for (int l = 0; l < lanes; ++l) x[l] = to_float(to_f16(x[l]));
    return x;
#endif
  } else {
    return x;
  }
}

// Calls f with a null pointer of the activation's element type.
template <class F>
void dispatch(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32:
      return f(static_cast<float*>(nullptr));
    case DType::bf16:
      return f(static_cast<bf16*>(nullptr));
    case DType::f16:
      return f(static_cast<f16*>(nullptr));
    default:
      check(false, "activations are float32, bfloat16 or float16, not {}", name_of(dtype));
  }
}

}  // namespace ptq::simd

// Activations and gates
//   formula   y = act(gate) * up, or act(gate)
//             silu x s(x), gelu_tanh x s(2 u) with u = sqrt(2/pi) (x + 0.044715 x^3), where s(x) = 1 / (1 + e^-x) and
//             0.5 (1 + tanh u) = s(2 u); gelu_erf 0.5 x (1 + erf(x / sqrt 2)); relu keeps NaN
//   shapes    y, gate, up (T, F), taken as one row of n elements
//   maps      thread <-> chunk of 16 bytes
//   cost      an exponential and a division an element; reads gate and up, writes y: memory-bound
//   twin      host/cpu/layers.cpp     test  tests/test_ops_layers.cpp     chain  1
#include "cuda/chunk.cuh"
#include "cuda/launch.cuh"
#include "cuda/layers.h"
#include "cuda/types.h"

#include <cmath>

namespace ptq::cuda {

namespace {

constexpr int threads = 256;  // 8 warps: 8 blocks fill an SM, each thread with two loads in flight

}  // namespace

// x / (1 + e^-u)
__device__ inline float gated_by_logistic(float x, float u) { return x / (1.0f + expf(-u)); }

__device__ inline float relu(float x) { return x < 0.0f ? 0.0f : x; }
__device__ inline float silu(float x) { return gated_by_logistic(x, x); }
__device__ inline float gelu_tanh(float x) {
  constexpr float twice_sqrt_2_over_pi = 1.5957691216057308f;
  return gated_by_logistic(x, twice_sqrt_2_over_pi * (x + 0.044715f * x * x * x));
}
__device__ inline float gelu_erf(float x) {
  constexpr float sqrt_half = 0.70710678118654752f;
  return 0.5f * x * (1.0f + erff(x * sqrt_half));
}

template <int n>
__device__ inline void apply(Activation act, float (&x)[n]) {
  const auto all = [&](auto&& f) {
#pragma unroll
    for (float& v : x) v = f(v);
  };
  switch (act) {  // the same for the whole grid
    case Activation::relu:
      return all([](float v) { return relu(v); });
    case Activation::silu:
      return all([](float v) { return silu(v); });
    case Activation::gelu_tanh:
      return all([](float v) { return gelu_tanh(v); });
    case Activation::gelu_erf:
      return all([](float v) { return gelu_erf(v); });
  }
}

template <class T, bool vector>
__global__ void __launch_bounds__(threads) activate_kernel(T* y,           // (n), may be gate
                                                           const T* gate,  // (n)
                                                           const T* up,    // (n) or null
                                                           std::int64_t n, Activation act) {
  const std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * threads + static_cast<int>(threadIdx.x)) * chunk<T>;
  if (i >= n) return;
  float x[chunk<T>], factor[chunk<T>];
  load_any<vector>(x, gate + i, n - i);
  if (up != nullptr) load_any<vector>(factor, up + i, n - i);
  apply(act, x);
  if (up != nullptr) {
#pragma unroll
    for (int e = 0; e < chunk<T>; ++e) x[e] *= factor[e];
  }
  store_any<vector>(y + i, x, n - i);
}

void activate(void* y, const void* gate, const void* up, DType dtype, std::int64_t n, Activation act, Stream stream) {
  visit_float(dtype, [&]<class T>(T) {
    const bool vector = fits_vectors(0, {y, gate, up});
    launch("activate", vector ? activate_kernel<T, true> : activate_kernel<T, false>,
           {.grid = static_cast<unsigned>(tiles(n, threads * chunk<T>)),
            .block = threads,
            .stream = stream,
            .bytes = (up == nullptr ? 2.0 : 3.0) * sizeof(T) * static_cast<double>(n)},
           static_cast<T*>(y), static_cast<const T*>(gate), static_cast<const T*>(up), n, act);
  });
}

}  // namespace ptq::cuda

// Layer and RMS norm
//   formula   layer: y[r] = (x[r] - mean) / sqrt(mean((x[r] - mean)^2) + eps) * w + b
//             rms:   y[r] = x[r] / sqrt(mean(x[r]^2) + eps) * w + b       both with w[r % Q], or 1 + w[r % Q]
//   shapes    x, y (R, D)   w, b (Q, D)
//   maps      row <-> team of threads: a power of two of lanes of a warp for short rows, else a block; chunk c of
//             16 bytes <-> thread c mod team, which keeps 16 floats of the row in registers and reads the rest again
//   cost      7 R D flops; reads x once (D <= 16384), writes y, gains come from the caches: memory-bound
//   twin      host/cpu/layers.cpp     test  tests/test_ops_layers.cpp     chain  16 + log2 32 + 32
#include "cuda/block.cuh"
#include "cuda/chunk.cuh"
#include "cuda/launch.cuh"
#include "cuda/layers.h"
#include "cuda/types.h"

#include <algorithm>

namespace ptq::cuda {

namespace {

constexpr int held_floats = 16;  // of a thread: 32 bytes in flight of halves, and no more than 64 registers in all
constexpr int most_threads = 1024;
constexpr int small_block = 256;  // where teams are parts of a warp

}  // namespace

// The sum over a team's threads, in each of them.
__device__ inline float team_sum(float x, int team, float* scratch) {
  if (team > warp_lanes) return block_sum(x, scratch);
  for (int step = team / 2; step > 0; step /= 2) x += __shfl_xor_sync(all_lanes, x, step);
  return x;
}

template <class T, bool vector>
__global__ void __launch_bounds__(most_threads)
    norm_kernel(T* y,                         // (R, D), may be x
                const T* x,                   // (R, D)
                const float* __restrict__ w,  // (Q, D)
                const float* __restrict__ b,  // (Q, D) or null
                std::int64_t rows,            // R
                int width,                    // D
                std::int64_t gains,           // Q
                int team,                     // threads of a row: 1, 2, .. 32, or all of the block
                NormSpec spec) {
  constexpr int per_chunk = chunk<T>, held = held_floats / per_chunk;
  auto* scratch = dynamic_smem<float>();
  const int thread = static_cast<int>(threadIdx.x);
  const std::int64_t row =
      static_cast<std::int64_t>(blockIdx.x) * (static_cast<int>(blockDim.x) / team) + thread / team;
  const int end = row < rows ? width : 0;  // threads without a row have no columns, but take part in sums
  const int first = thread % team * per_chunk, step = team * per_chunk;
  x += row * width;

  float part[held][per_chunk];
#pragma unroll
  for (int k = 0; k < held; ++k) {
    if (const int i = first + k * step; i < end) load<vector>(part[k], x + i, end - i);
  }
  // f(values, first column, number of values) for each chunk of the thread
  const auto each_chunk = [&](auto&& f) {
#pragma unroll
    for (int k = 0; k < held; ++k) {
      if (const int i = first + k * step; i < end) f(part[k], i, vector ? per_chunk : end - i);
    }
    for (int i = first + held * step; i < end; i += step) {
      float rest[per_chunk];
      load<vector>(rest, x + i, end - i);
      f(rest, i, vector ? per_chunk : end - i);
    }
  };

  float mean = 0.0f;
  if (spec.kind == NormKind::layer) {
    float sum = 0.0f;
    each_chunk([&](const float(&v)[per_chunk], int, int) {
#pragma unroll
      for (int e = 0; e < per_chunk; ++e) sum += v[e];
    });
    mean = team_sum(sum, team, scratch) / static_cast<float>(width);
  }
  float square = 0.0f;
  each_chunk([&](const float(&v)[per_chunk], int, int count) {
#pragma unroll
    for (int e = 0; e < per_chunk; ++e) {
      const float d = v[e] - mean;
      if (e < count) square = fmaf(d, d, square);
    }
  });
  const float variance = team_sum(square, team, scratch) / static_cast<float>(width);
  const float scale = 1.0f / sqrtf(variance + spec.epsilon);

  const std::int64_t gain_row = row % gains * width;
  const float one = spec.one_plus_weight ? 1.0f : 0.0f;
  y += row * width;
  each_chunk([&](const float(&v)[per_chunk], int i, int count) {
    float out[per_chunk], gain[per_chunk];
    load<vector>(gain, w + gain_row + i, count);
#pragma unroll
    for (int e = 0; e < per_chunk; ++e) out[e] = (v[e] - mean) * scale;
    if (spec.round_before_weight) widen<T>(out, narrow<T>(out));
#pragma unroll
    for (int e = 0; e < per_chunk; ++e) out[e] *= one + gain[e];
    if (b != nullptr) {
      float offset[per_chunk];
      load<vector>(offset, b + gain_row + i, count);
#pragma unroll
      for (int e = 0; e < per_chunk; ++e) out[e] += offset[e];
    }
    store<vector>(y + i, out, count);
  });
}

void norm(void* y, const void* x, const float* w, const float* b, DType dtype, std::int64_t rows, std::int64_t width,
          std::int64_t gains, const NormSpec& spec, Stream stream) {
  visit_float(dtype, [&]<class T>(T) {
    constexpr int held = held_floats / chunk<T>;
    const std::int64_t chunks = tiles(width, chunk<T>);
    std::int64_t team = 1;
    while (team < chunks && team < warp_lanes) team *= 2;
    if (chunks > warp_lanes * held) {
      team = std::min<std::int64_t>(tiles(tiles(chunks, held), warp_lanes) * warp_lanes, most_threads);
    }
    const std::int64_t block = std::max<std::int64_t>(team, team <= warp_lanes ? small_block : 0);
    const bool vector = fits_vectors(width * static_cast<int>(sizeof(T)), {y, x, w, b});
    const double n = static_cast<double>(rows) * static_cast<double>(width);
    launch("norm", vector ? norm_kernel<T, true> : norm_kernel<T, false>,
           {.grid = static_cast<unsigned>(tiles(rows, block / team)),
            .block = static_cast<unsigned>(block),
            .smem = warp_lanes * sizeof(float),
            .stream = stream,
            .flops = 7.0 * n,
            .bytes = 2.0 * sizeof(T) * n},
           static_cast<T*>(y), static_cast<const T*>(x), w, b, rows, static_cast<int>(width), gains,
           static_cast<int>(team), spec);
  });
}

}  // namespace ptq::cuda

// What the SIMT executor costs: docs/simt.md prints this table. One worker, the best of several runs.
//
//   ptq_simt_cost
#include "cuda/ptx.cuh"
#include "host/dtype.h"

#include <fmt/format.h>

#include <chrono>
#include <functional>

namespace ptq::cuda {
namespace {

constexpr int repeats = 200;

__global__ void nothing_kernel() {}

__global__ void barrier_kernel() {
  for (int i = 0; i < repeats; ++i) __syncthreads();  // what is measured
}

__global__ void shuffle_kernel(float* out) {
  float x = 1.0f;
  for (int i = 0; i < repeats; ++i) x += __shfl_xor_sync(0xffffffffu, x, 1);
  out[threadIdx.x % 32] = x;
}

template <class T>
__global__ void mma_kernel(float* out) {
  const std::uint32_t a[4] = {threadIdx.x, 1, 2, 3}, b[2] = {1, threadIdx.x};
  float c[4] = {};
  for (int i = 0; i < repeats; ++i) mma_16816<T>(c, a, b);
  out[threadIdx.x % 32] = c[0];
}

__global__ void byte_mma_kernel(float* out) {
  const std::uint32_t a[4] = {threadIdx.x, 1, 2, 3}, b[2] = {1, threadIdx.x};
  std::int32_t c[4] = {};
  for (int i = 0; i < repeats; ++i) mma_16832(c, a, b);
  out[threadIdx.x % 32] = static_cast<float>(c[0]);
}

__global__ void ldmatrix_kernel(float* out) {
  auto* rows = dynamic_smem<std::uint16_t>();
  std::uint32_t x[4] = {};
  for (int i = 0; i < repeats; ++i) ldmatrix_x4(x, rows + threadIdx.x % 32 * 8);
  out[threadIdx.x % 32] = static_cast<float>(x[0]);
}

__global__ void copy_kernel(const std::uint16_t* in) {
  auto* rows = dynamic_smem<std::uint16_t>();
  for (int i = 0; i < repeats; ++i) {
    cp_async_16(rows + threadIdx.x * 8, in + threadIdx.x % 4 * 8);
    cp_async_commit();
    cp_async_wait<0>();
  }
}

// Nanoseconds, the best of seven.
double time(const std::function<void()>& run) {
  double best = 1e30;
  for (int i = 0; i < 7; ++i) {
    const auto start = std::chrono::steady_clock::now();
    run();
    best = std::min(best, std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

void row(const char* what, const char* per, unsigned threads, double pieces, const std::function<void()>& run) {
  fmt::print("| {:<22} | {:>15} | {:>7} | {:>8.1f} |\n", what, per, threads, time(run) / pieces);
}

void table() {
  alignas(16) static std::uint16_t in[64] = {};
  static float out[32];
  fmt::print("| what | per | threads in a block | ns |\n| --- | --- | --- | --- |\n");
  constexpr unsigned blocks = 2000;
  for (unsigned threads : {32u, 256u, 1024u}) {
    const double calls = 1.0 * threads * repeats, warps = calls / warpSize;
    const LaunchSpec one{.grid = 1, .block = threads, .smem = threads * 16};
    row("empty block", "thread", threads, 1.0 * blocks * threads,
        [&] { launch("nothing", nothing_kernel, {.grid = blocks, .block = threads}); });
    row("__syncthreads", "thread", threads, calls, [&] { launch("barrier", barrier_kernel, one); });
    row("__shfl_xor_sync", "thread", threads, calls, [&] { launch("shuffle", shuffle_kernel, one, out); });
    row("cp.async, 16 bytes", "thread", threads, calls, [&] { launch("copy", copy_kernel, one, in); });
    row("ldmatrix.x4", "warp", threads, warps, [&] { launch("ldmatrix", ldmatrix_kernel, one, out); });
    row("mma.m16n8k16, bf16", "warp", threads, warps, [&] { launch("mma", mma_kernel<bf16>, one, out); });
    row("mma.m16n8k16, f16", "warp", threads, warps, [&] { launch("mma", mma_kernel<f16>, one, out); });
    row("mma.m16n8k32, s8", "warp", threads, warps, [&] { launch("mma", byte_mma_kernel, one, out); });
  }
}

}  // namespace
}  // namespace ptq::cuda

int main() { ptq::cuda::table(); }

// One instruction of ptx.cuh per kernel
//   formula   that of the instruction
//   shapes    ptx_check.h
//   maps      conversions: thread = element; cp.async: thread 0 does all; ldmatrix, mma: block = one warp = one product
//   cost      none that matters: only tests call it
//   twin      tests/test_ptx.cpp     test  tests/test_ptx.cpp     chain  K of the instruction
#include "cuda/ptx_check.h"

#include "cuda/block.cuh"
#include "cuda/ptx.cuh"

namespace ptq::cuda {

constexpr int check_threads = 128;

template <class T>
__global__ void ptx_widen_kernel(float* __restrict__ y,    // (n)
                                 const T* __restrict__ x,  // (n)
                                 int n) {
  const auto i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) y[i] = as_float(x[i]);
}

template <class T>
__global__ void ptx_round_kernel(T* __restrict__ y,            // (n)
                                 const float* __restrict__ x,  // (n)
                                 int n) {
  const auto i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) y[i] = round_to<T>(x[i]);
}

template <class T>
__global__ void ptx_pairs_kernel(std::uint32_t* __restrict__ pairs,  // (n)
                                 float* __restrict__ y,              // (n, 2)
                                 const float* __restrict__ x,        // (n, 2)
                                 int n) {
  const auto i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= n) return;
  pairs[i] = pack_pair<T>(x[2 * i], x[2 * i + 1]);
  const float2 both = unpack_pair<T>(pairs[i]);
  y[2 * i] = both.x;
  y[2 * i + 1] = both.y;
}

template <int size>
__global__ void ptx_copy_kernel(unsigned char* __restrict__ y,        // (chunks, size)
                                const unsigned char* __restrict__ x,  // (chunks, size)
                                const int* __restrict__ bytes,        // (chunks)
                                int chunks) {
  auto* smem = dynamic_smem<unsigned char>();  // two chunks
  const auto take = [&](int c) {
    for (int i = 0; i < size; ++i) y[c * size + i] = smem[c % 2 * size + i];
  };
  for (int c = 0; c < chunks; ++c) {
    if (c >= 2) take(c - 2);
    if constexpr (size == 16) {
      cp_async_16(smem + c % 2 * size, x + c * size, bytes[c]);
    } else {
      cp_async_4(smem + c % 2 * size, x + c * size, bytes[c]);
    }
    cp_async_commit();
    cp_async_wait<1>();  // chunk c - 1 is here, this one need not be
  }
  cp_async_wait<0>();
  for (int c = chunks < 2 ? 0 : chunks - 2; c < chunks; ++c) take(c);
}

template <bool transposed>
__global__ void ptx_load_kernel(std::uint32_t* __restrict__ y,        // (32, 4)
                                const std::uint16_t* __restrict__ x,  // (32, 8)
                                const int* __restrict__ rows) {       // (32)
  auto* smem = dynamic_smem<std::uint16_t>();                         // (32, 8)
  const int lane = lane_index();
  for (int i = 0; i < 8; ++i) smem[lane * 8 + i] = x[lane * 8 + i];
  __syncthreads();  // smem is complete
  std::uint32_t registers[4];
  if constexpr (transposed) {
    ldmatrix_x4_transposed(registers, smem + rows[lane] * 8);
  } else {
    ldmatrix_x4(registers, smem + rows[lane] * 8);
  }
  for (int i = 0; i < 4; ++i) y[lane * 4 + i] = registers[i];
}

template <class T>
__device__ void mma(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  mma_16816<T>(c, a, b);
}
template <class T>
__device__ void mma(std::int32_t (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
  mma_16832(c, a, b);
}

template <class T, class Sum>
__global__ void ptx_mma_registers_kernel(Sum* __restrict__ c,                    // (n, 32, 4)
                                         const std::uint32_t* __restrict__ a,    // (n, 32, 4)
                                         const std::uint32_t* __restrict__ b) {  // (n, 32, 2)
  const int thread = static_cast<int>(blockIdx.x) * warp_lanes + lane_index();
  Sum sum[4];
  std::uint32_t left[4], right[2];
  for (int i = 0; i < 4; ++i) sum[i] = c[thread * 4 + i], left[i] = a[thread * 4 + i];
  for (int i = 0; i < 2; ++i) right[i] = b[thread * 2 + i];
  mma<T>(sum, left, right);
  for (int i = 0; i < 4; ++i) c[thread * 4 + i] = sum[i];
}

// The bits of an element, shifted to its place in a register of `per`.
template <int per, class T>
__device__ std::uint32_t placed(T x, int element) {
  if constexpr (per == 2) {
    return static_cast<std::uint32_t>(x.bits) << (16 * (element % 2));
  } else {
    return static_cast<std::uint32_t>(static_cast<std::uint8_t>(x)) << (8 * (element % 4));
  }
}

template <class T, class Sum>
__global__ void ptx_mma_kernel(Sum* __restrict__ c,        // (n, 16, 8)
                               const T* __restrict__ a,    // (n, 16, K)
                               const T* __restrict__ b) {  // (n, K, 8)
  constexpr int per = 4 / sizeof(T), depth = 8 * per;
  using Map = MmaMap<per>;
  const int lane = lane_index();
  c += blockIdx.x * 16 * 8;
  a += blockIdx.x * 16 * depth;
  b += blockIdx.x * depth * 8;
  Sum sum[4];
  std::uint32_t left[4] = {}, right[2] = {};
  for (int e = 0; e < 4; ++e) sum[e] = c[mma_c_row(lane, e) * 8 + mma_c_col(lane, e)];
  for (int e = 0; e < 4 * per; ++e) {
    left[e / per] |= placed<per>(a[Map::a_row(lane, e) * depth + Map::a_k(lane, e)], e);
  }
  for (int e = 0; e < 2 * per; ++e) {
    right[e / per] |= placed<per>(b[Map::b_k(lane, e) * 8 + Map::b_col(lane, e)], e);
  }
  mma<T>(sum, left, right);
  for (int e = 0; e < 4; ++e) c[mma_c_row(lane, e) * 8 + mma_c_col(lane, e)] = sum[e];
}

template <class T>
void ptx_widen(float* y, const T* x, int n, Stream stream) {
  launch("ptx_widen", ptx_widen_kernel<T>,
         {.grid = static_cast<unsigned>(tiles(n, check_threads)), .block = check_threads, .stream = stream}, y, x, n);
}
template <class T>
void ptx_round(T* y, const float* x, int n, Stream stream) {
  launch("ptx_round", ptx_round_kernel<T>,
         {.grid = static_cast<unsigned>(tiles(n, check_threads)), .block = check_threads, .stream = stream}, y, x, n);
}
template <class T>
void ptx_pairs(std::uint32_t* pairs, float* y, const float* x, int n, Stream stream) {
  launch("ptx_pairs", ptx_pairs_kernel<T>,
         {.grid = static_cast<unsigned>(tiles(n, check_threads)), .block = check_threads, .stream = stream}, pairs, y,
         x, n);
}

void ptx_copy(unsigned char* y, const unsigned char* x, const int* bytes, int chunks, int size, Stream stream) {
  launch("ptx_copy", size == 16 ? ptx_copy_kernel<16> : ptx_copy_kernel<4>, {.smem = 32, .stream = stream}, y, x, bytes,
         chunks);
}

void ptx_load(std::uint32_t* y, const std::uint16_t* x, const int* rows, bool transposed, Stream stream) {
  launch("ptx_load", transposed ? ptx_load_kernel<true> : ptx_load_kernel<false>,
         {.block = warp_lanes, .smem = 32 * 8 * sizeof(std::uint16_t), .stream = stream}, y, x, rows);
}

template <class T>
void ptx_mma_registers(float* c, const std::uint32_t* a, const std::uint32_t* b, int n, Stream stream) {
  launch("ptx_mma_registers", ptx_mma_registers_kernel<T, float>,
         {.grid = static_cast<unsigned>(n), .block = warp_lanes, .stream = stream}, c, a, b);
}
void ptx_mma_registers_s8(std::int32_t* c, const std::uint32_t* a, const std::uint32_t* b, int n, Stream stream) {
  launch("ptx_mma_registers_s8", ptx_mma_registers_kernel<std::int8_t, std::int32_t>,
         {.grid = static_cast<unsigned>(n), .block = warp_lanes, .stream = stream}, c, a, b);
}

template <class T>
void ptx_mma(float* c, const T* a, const T* b, int n, Stream stream) {
  launch("ptx_mma", ptx_mma_kernel<T, float>, {.grid = static_cast<unsigned>(n), .block = warp_lanes, .stream = stream},
         c, a, b);
}
void ptx_mma_s8(std::int32_t* c, const std::int8_t* a, const std::int8_t* b, int n, Stream stream) {
  launch("ptx_mma_s8", ptx_mma_kernel<std::int8_t, std::int32_t>,
         {.grid = static_cast<unsigned>(n), .block = warp_lanes, .stream = stream}, c, a, b);
}

template void ptx_widen(float*, const bf16*, int, Stream);
template void ptx_widen(float*, const f16*, int, Stream);
template void ptx_round(bf16*, const float*, int, Stream);
template void ptx_round(f16*, const float*, int, Stream);
template void ptx_pairs<bf16>(std::uint32_t*, float*, const float*, int, Stream);
template void ptx_pairs<f16>(std::uint32_t*, float*, const float*, int, Stream);
template void ptx_mma_registers<bf16>(float*, const std::uint32_t*, const std::uint32_t*, int, Stream);
template void ptx_mma_registers<f16>(float*, const std::uint32_t*, const std::uint32_t*, int, Stream);
template void ptx_mma(float*, const bf16*, const bf16*, int, Stream);
template void ptx_mma(float*, const f16*, const f16*, int, Stream);

}  // namespace ptq::cuda

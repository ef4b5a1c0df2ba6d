// All inline PTX of the project. Each instruction stands beside its meaning in C++, which the SIMT executor runs, and
// the maps from (lane, register element) to matrix element are functions that kernels and meanings share: on the CPU
// the map is the instruction, on a GPU tests/test_ptx.cpp compares the map with the hardware.
//
// PTX ISA sections: 9.7.9 (cvt), 9.7.9.25.3 (cp.async), 9.7.14.5 (mma.m16n8k16, m16n8k32, ldmatrix).
#pragma once

#include "cuda/launch.cuh"
#include "host/dtype.h"

#include <type_traits>

namespace ptq::cuda {

// --- conversions -----------------------------------------------------------------------------------------------------
// Halves are ptq::bf16 and ptq::f16 (16 bits); arithmetic is fp32, rounding to nearest even.

__device__ inline float as_float(float x) { return x; }
__device__ inline float as_float(bf16 x) { return __uint_as_float(static_cast<unsigned>(x.bits) << 16); }
__device__ inline float as_float(f16 x) {
#ifdef __CUDACC__
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
#else
  return to_float(x);
#endif
}

template <class T>
__device__ inline T round_to(float x);
template <>
__device__ inline float round_to<float>(float x) {
  return x;
}
template <>
__device__ inline bf16 round_to<bf16>(float x) {
#ifdef __CUDACC__
  bf16 y;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
  return y;
#else
  return to_bf16(x);
#endif
}
template <>
__device__ inline f16 round_to<f16>(float x) {
#ifdef __CUDACC__
  f16 y;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
  return y;
#else
  return to_f16(x);
#endif
}

// Two halves in a register, the first in the low 16 bits.
template <class T>
__device__ inline std::uint32_t pack_pair(float first, float second) {
#ifdef __CUDACC__
  std::uint32_t pair;
  if constexpr (std::is_same_v<T, bf16>) {
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  } else {
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  }
  return pair;
#else
  const std::uint32_t low = round_to<T>(first).bits, high = round_to<T>(second).bits;
  return low | high << 16;
#endif
}
template <class T>
__device__ inline float2 unpack_pair(std::uint32_t pair) {
  return make_float2(as_float(T{static_cast<std::uint16_t>(pair)}),
                     as_float(T{static_cast<std::uint16_t>(pair >> 16)}));
}

// --- an offset of which the compiler knows nothing -------------------------------------------------------------------
// Addresses that depend on it are computed where they are used, instead of before the loop around it, where they would
// take registers.
__device__ inline std::int64_t opaque(std::int64_t offset) {
#ifdef __CUDACC__
  asm volatile("" : "+l"(offset));
#endif
  return offset;
}

// --- asynchronous copies from global to shared memory ----------------------------------------------------------------
// 16 bytes (both addresses 16-byte aligned), of which the first `bytes` are read and the rest become 0.
__device__ inline void cp_async_16(void* smem, const void* global, int bytes = 16) {
#ifdef __CUDACC__
  const unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(smem));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(bytes) : "memory");
#else
  ::simt::async_copy(smem, global, bytes, 16);
#endif
}
// The same for 4 bytes, where addresses are not aligned to more.
__device__ inline void cp_async_4(void* smem, const void* global, int bytes = 4) {
#ifdef __CUDACC__
  const unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(smem));
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(global), "r"(bytes) : "memory");
#else
  ::simt::async_copy(smem, global, bytes, 4);
#endif
}
// Closes a group of this thread's copies.
__device__ inline void cp_async_commit() {
#ifdef __CUDACC__
  asm volatile("cp.async.commit_group;" ::: "memory");
#else
  ::simt::async_commit();
#endif
}
// Waits until at most the `left` youngest groups of this thread are under way. Others see the data after a barrier.
template <int left>
__device__ inline void cp_async_wait() {
#ifdef __CUDACC__
  asm volatile("cp.async.wait_group %0;" ::"n"(left) : "memory");
#else
  ::simt::async_wait(left);
#endif
}

// --- ldmatrix: four 8 x 8 matrices of 16-bit elements from shared memory ---------------------------------------------
// Lane l gives the address of row l % 8 of matrix l / 8 (8 elements, 16-byte aligned) and gets, of each matrix, the
// elements (row, col) and (row, col + 1) of these maps, the first in the low bits.
__host__ __device__ constexpr int ldmatrix_row(int lane) { return lane / 4; }
__host__ __device__ constexpr int ldmatrix_col(int lane) { return lane % 4 * 2; }

#ifndef __CUDACC__
namespace meaning {
struct LdMatrix {
  std::uint32_t* to;
  const std::uint16_t* row;
};
template <bool transposed>
void ldmatrix(void* const (&all)[32]) {
  const auto lane = [&](int l) { return *static_cast<const LdMatrix*>(all[l]); };
  for (int l = 0; l < 32; ++l) {
    for (int m = 0; m < 4; ++m) {
      const auto element = [&](int row, int col) -> std::uint32_t {
        return transposed ? lane(m * 8 + col).row[row] : lane(m * 8 + row).row[col];
      };
      const int row = ldmatrix_row(l), col = ldmatrix_col(l);
      lane(l).to[m] = element(row, col) | element(row, col + 1) << 16;
    }
  }
}
}  // namespace meaning
#endif

__device__ inline void ldmatrix_x4(std::uint32_t (&to)[4], const void* row) {
#ifdef __CUDACC__
  const unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(at)
               : "memory");
#else
  ::simt::expect_shared("ldmatrix", row, 16);
  meaning::LdMatrix argument{to, static_cast<const std::uint16_t*>(row)};
  ::simt::warp_collective("ldmatrix", 0xffffffffu, meaning::ldmatrix<false>, &argument);
#endif
}
// The same with each matrix transposed.
__device__ inline void ldmatrix_x4_transposed(std::uint32_t (&to)[4], const void* row) {
#ifdef __CUDACC__
  const unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(at)
               : "memory");
#else
  ::simt::expect_shared("ldmatrix.trans", row, 16);
  meaning::LdMatrix argument{to, static_cast<const std::uint16_t*>(row)};
  ::simt::warp_collective("ldmatrix.trans", 0xffffffffu, meaning::ldmatrix<true>, &argument);
#endif
}

// --- mma: c [16,8] += a [16,K] b [K,8] by one warp -------------------------------------------------------------------
// Element e of a lane's part of c, a, b. For halves K = 16 and registers hold elements 2r, 2r + 1; for s8 K = 32 and
// registers hold elements 4r .. 4r + 3; the lowest bits hold the first.
__host__ __device__ constexpr int mma_c_row(int lane, int e) { return lane / 4 + e / 2 * 8; }
__host__ __device__ constexpr int mma_c_col(int lane, int e) { return lane % 4 * 2 + e % 2; }

template <int per_register>  // elements in a register: 2 (16 bits) or 4 (8 bits)
struct MmaMap {
  __host__ __device__ static constexpr int a_row(int lane, int e) { return lane / 4 + e / per_register % 2 * 8; }
  __host__ __device__ static constexpr int a_k(int lane, int e) {
    return lane % 4 * per_register + e % per_register + e / (2 * per_register) * (4 * per_register);
  }
  __host__ __device__ static constexpr int b_k(int lane, int e) {
    return lane % 4 * per_register + e % per_register + e / per_register * (4 * per_register);
  }
  __host__ __device__ static constexpr int b_col(int lane, int) { return lane / 4; }
};
using HalfMma = MmaMap<2>;
using ByteMma = MmaMap<4>;

#ifndef __CUDACC__
namespace meaning {
template <class Sum>
struct Mma {
  Sum* c;
  const std::uint32_t *a, *b;
};
inline float element(const std::uint32_t* registers, int e, bf16) {
  return to_float(bf16{static_cast<std::uint16_t>(registers[e / 2] >> (16 * (e % 2)))});
}
inline float element(const std::uint32_t* registers, int e, f16) {
  return to_float(f16{static_cast<std::uint16_t>(registers[e / 2] >> (16 * (e % 2)))});
}
inline std::int32_t element(const std::uint32_t* registers, int e, std::int8_t) {
  return static_cast<std::int8_t>(registers[e / 4] >> (8 * (e % 4)));
}

// Products are exact in fp32 and are added in the order of k. Tensor cores add in an order and precision that NVIDIA
// does not document.
template <class T, class Sum>
void mma(void* const (&all)[32]) {
  constexpr int per = 4 / sizeof(T), depth = 8 * per;
  using Map = MmaMap<per>;
  Sum a[16][depth], b[depth][8];
  for (int l = 0; l < 32; ++l) {
    const auto& mine = *static_cast<const Mma<Sum>*>(all[l]);
    for (int e = 0; e < 4 * per; ++e) a[Map::a_row(l, e)][Map::a_k(l, e)] = element(mine.a, e, T{});
    for (int e = 0; e < 2 * per; ++e) b[Map::b_k(l, e)][Map::b_col(l, e)] = element(mine.b, e, T{});
  }
  Sum c[16][8];
  for (int l = 0; l < 32; ++l) {
    for (int e = 0; e < 4; ++e) c[mma_c_row(l, e)][mma_c_col(l, e)] = static_cast<const Mma<Sum>*>(all[l])->c[e];
  }
  for (int i = 0; i < 16; ++i) {
    for (int k = 0; k < depth; ++k) {
#pragma omp simd  // GCC would vectorise over k and shuffle
      for (int j = 0; j < 8; ++j) c[i][j] += a[i][k] * b[k][j];
    }
  }
  for (int l = 0; l < 32; ++l) {
    for (int e = 0; e < 4; ++e) static_cast<const Mma<Sum>*>(all[l])->c[e] = c[mma_c_row(l, e)][mma_c_col(l, e)];
  }
}
}  // namespace meaning
#endif

// T: bf16 or f16; a 16 x 16, b 16 x 8.
template <class T>
__device__ inline void mma_16816(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
#ifdef __CUDACC__
  if constexpr (std::is_same_v<T, bf16>) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
#else
  meaning::Mma<float> argument{c, a, b};
  ::simt::warp_collective("mma.m16n8k16", 0xffffffffu, meaning::mma<T, float>, &argument);
#endif
}

// s8 x s8 -> s32, exact; a 16 x 32, b 32 x 8.
__device__ inline void mma_16832(std::int32_t (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
#ifdef __CUDACC__
  asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  meaning::Mma<std::int32_t> argument{c, a, b};
  ::simt::warp_collective("mma.m16n8k32", 0xffffffffu, meaning::mma<std::int8_t, std::int32_t>, &argument);
#endif
}

}  // namespace ptq::cuda

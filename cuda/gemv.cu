// Products of a few rows: the linears of decoding.
//   formula   y[t,n] = sum_k x[t,k] w[n,k] + b[n]
//   shapes    x [R,I], R at most 16   W [N,I] of floats, or codes as in coded.h   b [N]   y [R,N] of f32 or x's type
//   maps      block = a strip of 16 output rows; its 8 warps take every 8th chunk of 64 columns, then add their sums in
//             the order of the warps. Halves go through mma, whose 16 rows are those of x: its multiplications cost the
//             same for 1 row and 16, and leave the issue slots to dequantizing. f32 goes through fmaf, row by row.
//   memory    weights stream past the L1 cache, 16 bytes a lane, the next ones on their way while one is multiplied. x
//             is read where it is needed: within a block each element has one use, so shared memory would gain nothing
//   cost      2 R N I flops; reads W once: memory-bound
//   twin      host/cpu/matmul.cpp     test  tests/test_ops_few.cpp     chain  I/8 + 8
#include "cuda/gemv.h"

#include "cuda/coded.cuh"
#include "cuda/types.h"

namespace ptq::cuda {

namespace {

constexpr int gemv_warps = 8, gemv_threads = gemv_warps * warp_lanes;
// Blocks of an SM, at least: 24 warps with two chunks of u4 each keep 24 KiB under way, what 3 TB/s for 132 SMs needs
// at 1 us of latency. The sums of f32 take more registers.
template <class T>
constexpr int gemv_blocks = sizeof(T) == 2 ? 3 : 2;
constexpr int gemv_outputs = gemv_most_rows * strip_rows;
static_assert(gemv_threads == gemv_outputs, "a thread stores an output");

// --- weights: what a lane needs of a chunk ---------------------------------------------------------------------------
// As every operand of m16n8k16, a lane's part of step s and tile t is two pairs of neighbouring columns, `column` being
// the first of pair h. Which columns make up a step is the weight's choice, as long as x is read in the same places.

template <class T>
struct FloatRows {
  static constexpr int per_vector = 16 / sizeof(T), vector_steps = per_vector / 4;
  static constexpr int ahead = sizeof(T) == 2 ? 2 : 1;  // chunks of a lane under way: 128 bytes
  struct Part {
    uint4 vectors[strip_tiles][chunk_steps / vector_steps];
  };

  const T* w;  // [N, ld]
  std::int64_t n, ld;

  __device__ static std::int64_t output_row(int strip, int tile, int r) {
    return std::int64_t{strip} * strip_rows + tile * 8 + r;
  }
  // A lane reads 16 bytes, which are its part of one step (f32) or two.
  __device__ static int column(int lane, int s, int h) {
    return s / vector_steps * 4 * per_vector + lane % 4 * per_vector + s % vector_steps * 4 + h * 2;
  }
  __device__ void load(Part& part, int strip, int chunk, int lane) const {
#pragma unroll
    for (int t = 0; t < strip_tiles; ++t) {
      const std::int64_t row = min(output_row(strip, t, lane / 4), n - 1);  // beyond N: not stored
#pragma unroll
      for (int v = 0; v < chunk_steps / vector_steps; ++v) {
        const int k = chunk * chunk_columns + column(lane, v * vector_steps, 0);
        part.vectors[t][v] = k < ld ? __ldcs(reinterpret_cast<const uint4*>(w + row * ld + k)) : make_uint4(0, 0, 0, 0);
      }
    }
  }
  __device__ void operands(Pair<T> (&b)[strip_tiles][2], const Part& part, int, int, int s, int) const {
#pragma unroll
    for (int t = 0; t < strip_tiles; ++t) {
      const uint4& v = part.vectors[t][s / vector_steps];
      if constexpr (std::is_same_v<T, float>) {
        b[t][0] = make_float2(__uint_as_float(v.x), __uint_as_float(v.y));
        b[t][1] = make_float2(__uint_as_float(v.z), __uint_as_float(v.w));
      } else {
        b[t][0] = s % vector_steps == 0 ? v.x : v.z;
        b[t][1] = s % vector_steps == 0 ? v.y : v.w;
      }
    }
  }
};

template <class T, int bits, bool one_group>
struct CodedRows {
  static constexpr int ahead = 2;  // chunks of a lane under way
  struct Part {
    LaneCodes<bits> codes;
    ChunkGrids<one_group> grids;
  };

  CodedView w;

  __device__ static std::int64_t output_row(int strip, int tile, int r) { return coded_row(strip, tile, r); }
  __device__ static int column(int lane, int s, int h) { return s * 16 + HalfMma::b_k(lane, h * 2); }
  __device__ void load(Part& part, int strip, int chunk, int lane) const {
    part.codes.load(LaneCodes<bits>::at(w, strip, chunk), lane, [](const uint4* from) { return __ldcs(from); });
    part.grids.load(w, strip, chunk, lane);
  }
  __device__ void operands(Pair<T> (&b)[strip_tiles][2], const Part& part, int strip, int chunk, int s,
                           int lane) const {
    dequantize<T>(b, part.codes, s, part.grids.step(w, strip, chunk, s, lane));
  }
};

// --- x ---------------------------------------------------------------------------------------------------------------
template <class T>
struct FewX {
  const T* x;  // [R, ld], ld even
  int rows, ld;

  // Elements k and k + 1 of a row; 0 beyond the last column and the last row.
  __device__ Pair<T> pair(int row, int k) const {
    if (row >= rows || k >= ld) return Pair<T>{};
    return __ldg(reinterpret_cast<const Pair<T>*>(x + std::int64_t{row} * ld + k));
  }
};

// --- sums of a warp --------------------------------------------------------------------------------------------------
template <class T>
struct FewSums {
  float sums[strip_tiles][4] = {};

  __device__ void add(const FewX<T>& x, int k0, int k1, const Pair<T> (&b)[strip_tiles][2], int lane) {
    const int row = lane / 4;
    const std::uint32_t a[4] = {x.pair(row, k0), x.pair(row + 8, k0), x.pair(row, k1), x.pair(row + 8, k1)};
#pragma unroll
    for (int t = 0; t < strip_tiles; ++t) mma_16816<T>(sums[t], a, b[t]);
  }
  __device__ void store(float* to, int, int lane) const {  // to [16 rows][16 outputs]
#pragma unroll
    for (int t = 0; t < strip_tiles; ++t) {
#pragma unroll
      for (int e = 0; e < 4; ++e) to[mma_c_row(lane, e) * strip_rows + t * 8 + mma_c_col(lane, e)] = sums[t][e];
    }
  }
};

template <>
struct FewSums<float> {
  float sums[strip_tiles][gemv_most_rows] = {};  // of a lane's columns

  __device__ void add(const FewX<float>& x, int k0, int k1, const float2 (&b)[strip_tiles][2], int) {
#pragma unroll
    for (int r = 0; r < gemv_most_rows; ++r) {
      if (r >= x.rows) break;
      const float2 low = x.pair(r, k0), high = x.pair(r, k1);
#pragma unroll
      for (int t = 0; t < strip_tiles; ++t) {
        float sum = fmaf(low.x, b[t][0].x, sums[t][r]);
        sum = fmaf(low.y, b[t][0].y, sum);
        sum = fmaf(high.x, b[t][1].x, sum);
        sums[t][r] = fmaf(high.y, b[t][1].y, sum);
      }
    }
  }
  __device__ void store(float* to, int rows, int lane) const {
#pragma unroll
    for (int t = 0; t < strip_tiles; ++t) {
#pragma unroll
      for (int r = 0; r < gemv_most_rows; ++r) {
        if (r >= rows) break;
        float sum = sums[t][r];  // over the four lanes of an output
        sum += __shfl_xor_sync(all_lanes, sum, 1);
        sum += __shfl_xor_sync(all_lanes, sum, 2);
        if (lane % 4 == 0) to[r * strip_rows + t * 8 + lane / 4] = sum;
      }
    }
  }
};

// --- kernel ----------------------------------------------------------------------------------------------------------
template <class T, class Rows>
__global__ void __launch_bounds__(gemv_threads, gemv_blocks<T>)  // 80 registers for halves
    gemv_kernel(void* __restrict__ y,                            // [R,N] of f32 or T
                bool y_is_f32,
                const FewX<T> x,              // [R,I]
                const Rows w,                 // [N,I]
                const float* __restrict__ b,  // [N] or null
                std::int64_t n, int columns) {
  constexpr int ahead = Rows::ahead;
  const int strip = static_cast<int>(blockIdx.x), chunks = static_cast<int>(chunks_of(columns));
  const int lane = lane_index(), warp = warp_index(), thread = static_cast<int>(threadIdx.x);

  FewSums<T> sums;
  typename Rows::Part parts[ahead];
#pragma unroll
  for (int p = 0; p < ahead; ++p) {
    const int chunk = warp + p * gemv_warps;
    if (chunk < chunks) w.load(parts[p], strip, chunk, lane);
  }
  for (int first = warp; first < chunks; first += ahead * gemv_warps) {
#pragma unroll
    for (int p = 0; p < ahead; ++p) {
      const int chunk = first + p * gemv_warps, next = chunk + ahead * gemv_warps;
      if (chunk >= chunks) break;
#pragma unroll
      for (int s = 0; s < chunk_steps; ++s) {
        Pair<T> operands[strip_tiles][2];
        w.operands(operands, parts[p], strip, chunk, s, lane);
        const int k = chunk * chunk_columns;
        sums.add(x, k + Rows::column(lane, s, 0), k + Rows::column(lane, s, 1), operands, lane);
      }
      if (next < chunks) w.load(parts[p], strip, next, lane);
    }
  }

  float* const of_warps = dynamic_smem<float>();  // [8][16][16]
  sums.store(of_warps + warp * gemv_outputs, x.rows, lane);
  __syncthreads();  // all warps' sums are there
  const int row = thread / strip_rows, output = thread % strip_rows;
  const std::int64_t column = Rows::output_row(strip, output / 8, output % 8);
  if (row >= x.rows || column >= n) return;
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < gemv_warps; ++i) sum += of_warps[i * gemv_outputs + thread];
  if (b != nullptr) sum += b[column];
  if (y_is_f32) {
    static_cast<float*>(y)[row * n + column] = sum;
  } else {
    static_cast<T*>(y)[row * n + column] = round_to<T>(sum);
  }
}

// --- launchers -------------------------------------------------------------------------------------------------------
template <class T, class Rows>
void launch_few(const char* name, const FewRows& p, const Rows& w, std::int64_t strips, double weight_bytes,
                Stream stream) {
  const FewX<T> x{static_cast<const T*>(p.x), static_cast<int>(p.rows), static_cast<int>(p.ldx)};
  launch(name, gemv_kernel<T, Rows>,
         {.grid = static_cast<unsigned>(p.rows > 0 ? strips : 0),
          .block = gemv_threads,
          .smem = gemv_warps * gemv_outputs * sizeof(float),
          .stream = stream,
          .flops = 2.0 * static_cast<double>(p.rows * p.n) * static_cast<double>(p.i),
          .bytes = weight_bytes},
         p.y, p.y_type == DType::f32, x, w, p.b, p.n, static_cast<int>(p.i));
}

template <class T, int bits>
void launch_codes(const FewRows& p, const CodedView& w, Stream stream) {
  const double bytes = static_cast<double>(w.n) * static_cast<double>(w.i) * bits / 8;
  if (w.one_group) {
    launch_few<T>("gemv_coded", p, CodedRows<T, bits, true>{w}, strips_of(w.n), bytes, stream);
  } else {
    launch_few<T>("gemv_coded", p, CodedRows<T, bits, false>{w}, strips_of(w.n), bytes, stream);
  }
}

}  // namespace

void gemv_float(const FewRows& p, const void* w, std::int64_t ld, Stream stream) {
  visit_float(p.type, [&](auto type) {
    using T = decltype(type);
    launch_few<T>("gemv_float", p, FloatRows<T>{static_cast<const T*>(w), p.n, ld}, tiles(p.n, strip_rows),
                  static_cast<double>(p.n * p.i) * sizeof(T), stream);
  });
}

void gemv_coded(const FewRows& p, const CodedView& w, Stream stream) {
  visit_float(p.type, [&](auto type) {
    using T = decltype(type);
    w.bits == 4 ? launch_codes<T, 4>(p, w, stream) : launch_codes<T, 8>(p, w, stream);
  });
}

}  // namespace ptq::cuda

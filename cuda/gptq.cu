// The GPTQ column sweep (spec A.5), one launch a matrix
//   formula   for the columns c of a block B in order:  q_c = Q(w_c),  e_c = (w_c - q_c) / U_cc,
//             w_k -= e_c U_ck for the later columns k of B;  after the block, w_k -= sum_{c in B} e_c U_ck for all k
//             behind it.  row_error = sum_c (w_c - q_c)^2 / U_cc^2 / 2
//   shapes    W (N, I) f32   codes (N, I) u8   scales, zeros (N, G) f32   row_error (N) f64   U (I, I) f32, upper
//   maps      block t <-> rows 32 t .., which need nothing of other rows. In B a row is 8 lanes of a warp, lane l has
//             columns l, l + 8, ..: the row goes from 8 columns to the next 8 without a barrier. Behind B it is a
//             product (gptq_rest.cuh)
//   cost      N I^2 flops, U read N / 32 times (from the second-level cache), W I / 256 times: compute-bound; the I
//             steps, each of two divisions, take their time one after the other
//   twin      host/cpu/gptq.cpp, in its order and rounding: the same codes     test  tests/test_ops_sweep.cpp
//   chain     B
#include "cuda/gptq.h"

#include "cuda/chunk.cuh"
#include "cuda/gptq_grids.cuh"
#include "cuda/gptq_rest.cuh"

namespace ptq::cuda {

namespace {

constexpr int staged_block = 128;             // widest block whose working memory is shared memory
constexpr int patch = row_lanes * row_lanes;  // elements of an 8 x 8 patch of U

__host__ __device__ constexpr int octets(int columns) { return (columns + row_lanes - 1) / row_lanes; }

constexpr int error_floats = staged_block * tile_rows;
constexpr int work_floats = octets(staged_block) * threads;
constexpr int factor_floats = octets(staged_block) * (octets(staged_block) + 1) / 2 * patch;
constexpr std::size_t staged_bytes =
    (error_floats + std::max(work_floats + factor_floats, panel_floats)) * sizeof(float);

}  // namespace

// What a tile of rows keeps of the block at hand. With `staged` it is in shared memory, else (blocks too wide for that)
// in global memory, and U is read where it lies.
template <bool staged>
struct BlockMemory {
  float* errors;  // [B][32] e of the block's columns
  float* work;    // [B / 8][256] W in the block: each thread's own columns, of no interest to others
  float* factor;  // staged: 8 x 8 patches (k, n), k <= n, of the block's triangle of U, in a patch [column][row]
  float* panels;  // [stages][8][512] U behind the block; in the memory of work and factor when those are done

  __device__ explicit BlockMemory(const Sweep& s) {
    auto* shared = dynamic_smem<float>();
    if constexpr (staged) {
      errors = shared;
      work = shared + error_floats;
      factor = work + work_floats;
      panels = work;
    } else {
      const int padded = octets(s.block) * row_lanes;
      errors = s.scratch + static_cast<std::int64_t>(blockIdx.x) * (2 * padded * tile_rows);
      work = errors + padded * tile_rows;
      factor = nullptr;
      panels = shared;
    }
  }

  __device__ static int patch_at(int k, int n) { return (n * (n + 1) / 2 + k) * patch; }

  // Copies the triangle of columns [begin, end) of U; what is below the diagonal or behind the end becomes 0.
  __device__ void begin_factor(const Sweep& s, int begin, int end) const {
    if constexpr (staged) {
      const int t = static_cast<int>(threadIdx.x), row = t / row_lanes % row_lanes, column = t % row_lanes;
      for (int n = 0; n < octets(end - begin); ++n) {
        for (int k = t / patch; k <= n; k += threads / patch) {
          const int i = begin + k * row_lanes + row, j = begin + n * row_lanes + column;
          const bool exists = i <= j && j < end;
          const float* from = exists ? s.u + static_cast<std::int64_t>(i) * s.columns + j : s.u;
          cp_async_4(factor + patch_at(k, n) + column * row_lanes + row, from, exists ? 4 : 0);
        }
      }
    }
  }

  // The thread's columns of W in the block, those of row t / 8. A row that does not exist is as the last one, a column
  // behind the end as the last one before.
  __device__ void begin_work(const Sweep& s, int first, int begin, int end) const {
    const int t = static_cast<int>(threadIdx.x);
    const float* row = s.w + static_cast<std::int64_t>(std::min(first + t / row_lanes, s.rows - 1)) * s.columns;
    for (int n = 0; n < octets(end - begin); ++n) {
      const float* from = row + std::min(begin + n * row_lanes + t % row_lanes, end - 1);
      if constexpr (staged) {
        cp_async_4(work + n * threads + t, from);
      } else {
        work[n * threads + t] = *from;
      }
    }
  }

  // u[l] = U of row 8 k + l and the lane's column 8 n + lane of the block, 0 below the diagonal and behind the end.
  __device__ void load_factor(float (&u)[row_lanes], const Sweep& s, int begin, int end, int k, int n, int lane) const {
    if constexpr (staged) {
      load4(u, factor + patch_at(k, n) + lane * row_lanes);
      load4(u + 4, factor + patch_at(k, n) + lane * row_lanes + 4);
    } else {
      const int j = begin + n * row_lanes + lane;
#pragma unroll
      for (int l = 0; l < row_lanes; ++l) {
        const int i = begin + k * row_lanes + l;
        u[l] = i <= j && j < end ? s.u[static_cast<std::int64_t>(i) * s.columns + j] : 0.0f;
      }
    }
  }
};

// Rounds the columns [begin, end) of the tile's rows one after the other.
template <bool staged>
__device__ void sweep_block(const Sweep& s, const BlockMemory<staged>& m, int first, int begin, int end) {
  const int t = static_cast<int>(threadIdx.x), lane = t % row_lanes, r = t / row_lanes, count = octets(end - begin);
  const bool row_exists = first + r < s.rows;
  const std::int64_t row = std::min(first + r, s.rows - 1);
  const auto levels = static_cast<float>(s.grid.levels());
  float* own = m.work + t;
  double loss = 0.0;
  for (int k = 0; k < count; ++k) {
    const int column = begin + k * row_lanes + lane, known = std::min(column, end - 1);
    const std::int64_t at = row * s.groups + (s.g_idx != nullptr ? s.g_idx[known] : known / s.group);
    const GridPoint grid{s.scales[at], s.zeros[at]};
    float u[row_lanes], error[row_lanes], d = 0.0f;
    m.load_factor(u, s, begin, end, k, k, lane);
#pragma unroll
    for (int l = 0; l < row_lanes; ++l) d = l == lane ? u[l] : d;
    // All lanes round their column in every step; it is lane l's turn, which has seen all errors before it. After the
    // last step every lane has.
    float w = own[k * threads], code, q, e;
#pragma unroll
    for (int l = 0; l < row_lanes; ++l) {
      code = code_of(w, grid, levels);
      q = value_of(code, grid);
      e = (w - q) / d;
      error[l] = __shfl_sync(all_lanes, e, l, row_lanes);
      if (lane > l) w -= error[l] * u[l];
    }
    if (row_exists && column < end) {
      const float delta = w - q;
      s.w[row * s.columns + column] = q;
      s.codes[row * s.columns + column] = stored_code(code);
      loss += static_cast<double>(delta * delta / (d * d) / 2.0f);
    }
    m.errors[(k * row_lanes + lane) * tile_rows + r] = column < end ? e : 0.0f;
    for (int n = k + 1; n < count; ++n) {
      m.load_factor(u, s, begin, end, k, n, lane);
      float later = own[n * threads];
#pragma unroll
      for (int l = 0; l < row_lanes; ++l) later -= error[l] * u[l];
      own[n * threads] = later;
    }
  }
#pragma unroll
  for (int step = row_lanes / 2; step > 0; step /= 2) loss += __shfl_xor_sync(all_lanes, loss, step);
  if (lane == 0 && row_exists) s.row_error[row] = begin == 0 ? loss : s.row_error[row] + loss;
}

// Two blocks an SM: one steps through columns while the other multiplies.
template <bool staged>
__global__ void __launch_bounds__(threads, 2) gptq_sweep_kernel(Sweep s) {
  const BlockMemory<staged> m(s);
  const int first = static_cast<int>(blockIdx.x) * tile_rows;
  for (int begin = 0; begin < s.columns; begin += s.block) {
    const int end = std::min(begin + s.block, s.columns);
    m.begin_work(s, first, begin, end);
    m.begin_factor(s, begin, end);
    cp_async_commit();
    if (s.find_grids) find_grids(s, first, tile_rows, begin, end);
    cp_async_wait<0>();
    __syncthreads();  // the block's factor and grids are complete
    sweep_block(s, m, first, begin, end);
    if (end == s.columns) break;
    __syncthreads();  // the errors are complete, and the memory of work and factor is free
    update_rest(s, m.errors, m.panels, first, begin, end);
    __syncthreads();  // W is ready for the next block, and the panels are free
  }
}

std::size_t sweep_scratch(const Sweep& s) {
  if (s.block <= staged_block) return 0;
  return static_cast<std::size_t>(tiles(s.rows, tile_rows) * 2 * octets(s.block) * row_lanes * tile_rows);
}

void gptq_sweep(Sweep sweep, Stream stream) {
  const double n = sweep.rows, i = sweep.columns;
  const bool staged = sweep.block <= staged_block;
  sweep.aligned = fits_vectors(sweep.columns * std::int64_t{4}, {sweep.w, sweep.u});
  launch("gptq_sweep", staged ? gptq_sweep_kernel<true> : gptq_sweep_kernel<false>,
         {.grid = static_cast<unsigned>(tiles(sweep.rows, tile_rows)),
          .block = threads,
          .smem = staged ? staged_bytes : panel_floats * sizeof(float),
          .stream = stream,
          .flops = n * i * i,
          .bytes = 9.0 * n * i + 2.0 * i * i},
         sweep);
}

}  // namespace ptq::cuda

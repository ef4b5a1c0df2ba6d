// AWQ's clip search (spec B.6)
//   formula   clip[n,g] = the c of absmax (1 - i / 20), i = 0..9, with the least |X_g d|^2,
//             d = Q(clamp(w, -c, c)) - w of row n's group g; the first of equals
//   shapes    clip (N, G) f32   W (N, I) f32   B (I, ldb) f32 of awq_tokens.cu; a group has b = I / G columns
//   maps      block <-> 12 rows in one group: their 120 candidates d are the rows of P = D B_g, thread <-> 8 x 8
//             elements of P. D is made in shared memory, 128 columns of the group at a time
//   cost      20 N I K flops for K columns of B, and a division for each of the 10 N I elements of D: compute-bound
//   twin      host/cpu/awq_clip.cpp     test  tests/test_ops_awq.cpp     chain  b + 8
#include "cuda/awq.h"

#include "cuda/outer_product.cuh"
#include "cuda/ptx.cuh"
#include "cuda/row_grid.cuh"

namespace ptq::cuda {

namespace {

constexpr int threads = 256;
constexpr int warps = threads / warp_lanes;
constexpr int candidates = 10;
constexpr int batch = 12;        // rows of W whose candidates are multiplied together
constexpr int side = 128;        // of a tile of P: 120 candidates and 8 rows without meaning
constexpr int slice = 128;       // columns of the group for which D is made at once
constexpr int pitch = side + 4;  // of D in shared memory: lanes side by side in a slice share fewer banks
constexpr int depth = 8;         // rows of B that arrive together
constexpr int stages = 2;        // such parts of B, one in use
constexpr int gap = side / 2;    // between the two runs of four columns of a thread
static_assert(candidates * batch <= side && side * side == 64 * threads, "a thread has 8 x 8 elements of P");
static_assert(slice == side, "the Gram form looks at D where P has its columns");
static_assert(depth * side == 4 * threads, "a thread copies four elements of a part of B");

constexpr int d_floats = slice * pitch;
constexpr int part_floats = depth * side;
constexpr std::size_t search_bytes = side * sizeof(double) + (d_floats + stages * part_floats) * sizeof(float) +
                                     candidates * batch * (sizeof(GridPoint) + sizeof(float));

}  // namespace

struct SearchMemory {
  double* error;    // [side] of each candidate
  float* d;         // [slice][pitch] a candidate's d in a column
  float* parts;     // [stages][depth][side] of B
  GridPoint* grid;  // [batch * candidates]
  float* clip;      // [batch * candidates]

  __device__ SearchMemory()
      : error(dynamic_smem<double>()),
        d(reinterpret_cast<float*>(error + side)),
        parts(d + d_floats),
        grid(reinterpret_cast<GridPoint*>(parts + stages * part_floats)),
        clip(reinterpret_cast<float*>(grid + batch * candidates)) {}
};

// The clips of each row and their grids, a warp a row.
__device__ void find_candidates(const SearchMemory& m, const ClipSearch& s, int row0, int first) {
  for (int r = warp_index(); r < batch; r += warps) {
    const float* w = s.w + static_cast<std::int64_t>(std::min(row0 + r, s.rows - 1)) * s.columns + first;
    const ValueRange range = warp_range([=](int i) { return w[i]; }, s.group);
    const int i = lane_index();
    if (i >= candidates) continue;
    const float absmax = std::max(std::fabs(range.lo), std::fabs(range.hi));
    const float c = absmax * static_cast<float>(1.0 - static_cast<double>(i) / 20.0);
    m.clip[r * candidates + i] = c;
    m.grid[r * candidates + i] = grid_of_range(std::clamp(range.lo, -c, c), std::clamp(range.hi, -c, c), s.grid);
  }
}

// D of the columns [k0, k0 + 128) of the group, 0 behind its end.
__device__ void make_d(const SearchMemory& m, const ClipSearch& s, int row0, int first, int k0) {
  const auto levels = static_cast<float>(s.grid.levels());
  for (int e = static_cast<int>(threadIdx.x); e < batch * slice; e += threads) {
    const int r = e / slice, k = e % slice;
    const bool exists = k0 + k < s.group;
    const std::int64_t row = std::min(row0 + r, s.rows - 1);
    const float w = exists ? s.w[row * s.columns + first + k0 + k] : 0.0f;
#pragma unroll
    for (int i = 0; i < candidates; ++i) {
      const float c = m.clip[r * candidates + i];
      const GridPoint g = m.grid[r * candidates + i];
      const float d = value_of(code_of(std::clamp(w, -c, c), g, levels), g) - w;
      m.d[k * pitch + r * candidates + i] = exists ? d : 0.0f;
    }
  }
}

// Rows [k, k + 8) of the group's B, columns [c, c + 128).
__device__ void copy_part(float* to, const float* b, const ClipSearch& s, int k, int c) {
  const int q = static_cast<int>(threadIdx.x), row = k + q / (side / 4), column = c + q % (side / 4) * 4;
  const bool exists = row < s.group && column < s.factor.pitch;
  cp_async_16(to + q * 4, exists ? b + static_cast<std::int64_t>(row) * s.factor.pitch + column : b, exists ? 16 : 0);
}

// sum += D B for the slice of the group from column k0 on and the columns [c, c + 128) of B, row and column those of
// the thread in P. D is made on the way.
__device__ void multiply_slice(float (&sum)[8][8], const SearchMemory& m, const ClipSearch& s, const float* b, int row0,
                               int first, int k0, int c, int row, int column) {
  const int parts = static_cast<int>(tiles(min(slice, s.group - k0), depth));
  copy_part(m.parts, b, s, k0, c);
  cp_async_commit();
  make_d(m, s, row0, first, k0);
  for (int p = 0; p < parts; ++p) {
    cp_async_wait<0>();
    __syncthreads();  // D and part p are complete, and nobody reads part p - 1 any more
    if (p + 1 < parts) copy_part(m.parts + (p + 1) % stages * part_floats, b, s, k0 + (p + 1) * depth, c);
    cp_async_commit();
    add_outer_products<depth, pitch, side, gap>(sum, m.d + p * depth * pitch + row,
                                                m.parts + p % stages * part_floats + column);
  }
}

// Adds what the tile of P says of the errors. In the Gram form D has the columns [c, c + 128) of the group.
__device__ void add_errors(const SearchMemory& m, const ClipSearch& s, const float (&sum)[8][8], int c, int row,
                           int column) {
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    float part = 0.0f;
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const int k = column + outer_column<gap>(j);
      const float other = s.factor.gram ? m.d[k * pitch + row + i] : sum[i][j];
      if (c + k < s.factor.terms) part = fmaf(sum[i][j], other, part);
    }
    double error = part;
#pragma unroll
    for (int step = 8; step > 0; step /= 2) error += __shfl_xor_sync(all_lanes, error, step);
    if (column == 0) m.error[row + i] += error;
  }
}

__global__ void __launch_bounds__(threads, 2) clip_search_kernel(ClipSearch s) {
  const SearchMemory m;
  const int batches = static_cast<int>(tiles(s.rows, batch)), t = static_cast<int>(threadIdx.x);
  const int row0 = static_cast<int>(blockIdx.x) % batches * batch, group = static_cast<int>(blockIdx.x) / batches;
  const int first = group * s.group, slices = static_cast<int>(tiles(s.group, slice));
  const int row = t / 16 * 8, column = t % 16 * 4;
  const float* b = s.b + static_cast<std::int64_t>(first) * s.factor.pitch;
  find_candidates(m, s, row0, first);
  if (t < side) m.error[t] = 0.0;
  for (int a = 0; a * side < s.factor.terms; ++a) {
    float sum[8][8] = {};
    for (int n = 0; n < slices; ++n) {
      const int k = s.factor.gram ? (a + 1 + n) % slices : n;  // so that in the Gram form D ends with the columns of P
      __syncthreads();  // the candidates are complete, and nobody reads D or parts of B any more
      multiply_slice(sum, m, s, b, row0, first, k * slice, a * side, row, column);
    }
    add_errors(m, s, sum, a * side, row, column);
  }
  __syncthreads();  // the errors are complete
  if (t >= batch || row0 + t >= s.rows) return;
  const double* error = m.error + t * candidates;
  int best = 0;
  for (int i = 1; i < candidates; ++i) best = error[i] < error[best] ? i : best;
  s.clip[static_cast<std::int64_t>(row0 + t) * (s.columns / s.group) + group] = m.clip[t * candidates + best];
}

void clip_search(const ClipSearch& s, Stream stream) {
  const double n = s.rows, i = s.columns, terms = s.factor.terms;
  launch("clip_search", clip_search_kernel,
         {.grid = static_cast<unsigned>(tiles(s.rows, batch) * (s.columns / s.group)),
          .block = threads,
          .smem = search_bytes,
          .stream = stream,
          .flops = 2.0 * candidates * n * i * terms,
          .bytes = 4.0 * (n * i + i * terms + n * i / s.group)},
         s);
}

}  // namespace ptq::cuda

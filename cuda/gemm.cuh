// The product of a tile, x W^T, as every dense kernel uses it: gemm.cu and gemm_f32.cu store it, head.cu turns it into
// softmax statistics. Three parts: the pipeline, which brings 64 bytes of k of every row of the tile to shared memory
// some steps ahead (cp.async); the sums of a warp, which multiply what has arrived (of halves here, of f32 in
// gemm_f32.cuh); and an epilogue, which gets the finished sums.
//
//   shapes    x (T, I)   w (N, I)   sums (T, N): tile rows x tile columns a block, warp_rows x warp_cols a warp
//   maps      whichever units multiply, a lane ends with whole runs of 8 neighbouring columns (16 bytes of halves):
//             row r, run g of a lane are row 8 r + lane / 4 and columns 32 g + 8 (lane % 4) .. + 7 of its warp's tile
//   order     k ascending, one accumulator per output; zeros are added beyond I
#pragma once

#include "cuda/block.cuh"
#include "cuda/gemm.h"
#include "cuda/ptx.cuh"

namespace ptq::cuda {

// --- constants -------------------------------------------------------------------------------------------------------
constexpr int gemm_row_bytes = 64;  // of k at a time: two mma deep; 4 stages of the wide tile fit 99 KiB (sm_89)
constexpr int gemm_chunk = 16;      // bytes of a copy and of a row of ldmatrix
constexpr int gemm_chunks = gemm_row_bytes / gemm_chunk;
constexpr int gemm_stages = 4;  // three are on their way while one is multiplied
constexpr int run_columns = 8;

template <class T>
constexpr int gemm_depth = gemm_row_bytes / static_cast<int>(sizeof(T));

template <int warps_down, int warps_across, int warp_rows_, int warp_cols_>
struct Tile {
  static constexpr int warps_m = warps_down, warps_n = warps_across, warp_rows = warp_rows_, warp_cols = warp_cols_;
  static constexpr int rows = warps_m * warp_rows, cols = warps_n * warp_cols;
  static constexpr int threads = warps_m * warps_n * warp_lanes;
  static constexpr int lane_rows = warp_rows / 8, lane_runs = warp_cols / 32;  // of a lane's sums
  static constexpr std::size_t smem = std::size_t{gemm_stages} * (rows + cols) * gemm_row_bytes;
  static_assert(warp_rows % 16 == 0 && warp_cols % 32 == 0, "a warp has whole mma rows and whole runs");
  static_assert(rows % (threads / gemm_chunks) == 0 && cols % (threads / gemm_chunks) == 0, "copies come out even");
  static_assert(smem <= 99 * 1024, "shared memory of sm_89");
};

// Halves: a warp of 64 x 64 needs 8 ldmatrix for 32 mma (32 x 32: 4 for 8), and a block of 128 x 256 the fewest bytes
// from L2 that the registers allow: sums take half of them, so that one block fits an SM. Floats: 64 sums a thread are
// what fits beside the operands of 16 k.
template <class T>
using WideTile = Tile<2, 4, 64, sizeof(T) == 2 ? 64 : 32>;
// Where wide tiles would leave most of the GPU without work.
using NarrowTile = Tile<2, 2, 32, 32>;
constexpr std::int64_t enough_tiles = 96;  // of 108 SMs (A100) or 132 (H100)

template <class T>
struct GemmOperands {
  const T* x;  // [T, ldx]
  const T* w;  // [N, ldw]
  std::int64_t ldx, ldw;
  std::int64_t rows, columns;  // T, N
  int depth;                   // I
};

template <class T>
GemmOperands<T> operands(const GemmShape& g) {
  return {static_cast<const T*>(g.x), static_cast<const T*>(g.w), g.ldx, g.ldw, g.rows, g.columns,
          static_cast<int>(g.depth)};
}

// --- shared memory ---------------------------------------------------------------------------------------------------
// Where chunk c of a row lies, in chunks. Two rows fill the 32 banks; the exclusive or spreads the rows that are read
// together: of x eight in sequence, of w pairs at a distance of 8.
__device__ inline int x_place(int row, int chunk) { return row * gemm_chunks + (chunk ^ (row / 2 % gemm_chunks)); }
__device__ inline int w_place(int row, int chunk) { return row * gemm_chunks + (chunk ^ (row / 8 % gemm_chunks)); }

// Starts the copy of 64 bytes of every row of a tile. from: the tile's first row, at its k; rows_left, bytes_left: up
// to the end of the matrix. What lies beyond becomes zeros.
template <int tile_rows, int threads, class T, class Place>
__device__ void copy_tile(uint4* to, const T* from, std::int64_t ld, int rows_left, int bytes_left, Place place) {
  const int first = static_cast<int>(threadIdx.x) / gemm_chunks, chunk = static_cast<int>(threadIdx.x) % gemm_chunks;
  const int bytes = max(0, min(bytes_left - chunk * gemm_chunk, gemm_chunk));
  const T* row_from = from + first * ld + chunk * (gemm_chunk / static_cast<int>(sizeof(T)));
#pragma unroll
  for (int pass = 0; pass < tile_rows; pass += threads / gemm_chunks) {
    const int row = first + pass;
    cp_async_16(to + place(row, chunk), row_from + pass * ld, row < rows_left ? bytes : 0);
  }
}

// --- the sums of a warp, of bf16 or f16, on tensor cores -------------------------------------------------------------
template <class T, class Shape>
class Sums {
  static_assert(sizeof(T) == 2, "the sums of f32 are in gemm_f32.cuh");

 public:
  // sums += x w^T for the 64 bytes of k in shared memory; x, w: the block's tiles.
  __device__ void multiply(const uint4* x, const uint4* w) {
    constexpr int steps = gemm_row_bytes / 32;  // an mma takes 32 bytes of k
    Fragments fragments[2];
    load(fragments[0], x, w, 0);
#pragma unroll
    for (int step = 0; step < steps; ++step) {
      if (step + 1 < steps) load(fragments[(step + 1) % 2], x, w, step + 1);  // while the tensor cores work
      const Fragments& f = fragments[step % 2];
#pragma unroll
      for (int i = 0; i < mma_rows; ++i) {
#pragma unroll
        for (int j = 0; j < mma_cols; ++j) mma_16816<T>(sums_[i][j], f.x[i], f.w[j]);
      }
    }
  }

  // Sum c of run g in row r of this lane.
  __device__ float& at(int r, int g, int c) { return sums_[r / 2][g * 4 + c / 2][r % 2 * 2 + c % 2]; }

 private:
  static constexpr int mma_rows = Shape::warp_rows / 16, mma_cols = Shape::warp_cols / 8;
  struct Fragments {
    std::uint32_t x[mma_rows][4], w[mma_cols][2];
  };

  // Row of w that is column c of mma j: dealt so that the four mma of a run give a lane 8 neighbours, its two columns
  // of each (mma_c_col) being columns 2 (j % 4) and 2 (j % 4) + 1 of the run.
  __device__ static int w_row(int j, int c) { return j / 4 * 32 + c / 2 * run_columns + j % 4 * 2 + c % 2; }

  __device__ void load(Fragments& f, const uint4* x, const uint4* w, int step) const {
    const int lane = lane_index();
    const int x_row = warp_index() / Shape::warps_n * Shape::warp_rows + lane % 16;
    const int w_first = warp_index() % Shape::warps_n * Shape::warp_cols;
#pragma unroll
    for (int i = 0; i < mma_rows; ++i) ldmatrix_x4(f.x[i], x + x_place(x_row + i * 16, step * 2 + lane / 16));
#pragma unroll
    for (int j = 0; j < mma_cols; j += 2) {  // matrices: mma j with the first and last 8 of k, then mma j + 1
      std::uint32_t both[4];
      ldmatrix_x4(both, w + w_place(w_first + w_row(j + lane / 16, lane % 8), step * 2 + lane / 8 % 2));
      f.w[j][0] = both[0], f.w[j][1] = both[1];
      f.w[j + 1][0] = both[2], f.w[j + 1][1] = both[3];
    }
  }

  float sums_[mma_rows][mma_cols][4] = {};
};

// --- the pipeline ----------------------------------------------------------------------------------------------------
// sums += rows [m, m + tile) of x times rows [n, n + tile) of w, all of k.
template <class T, class Shape>
__device__ void multiply_tile(Sums<T, Shape>& sums, const GemmOperands<T>& g, std::int64_t m, std::int64_t n) {
  constexpr int x_chunks = Shape::rows * gemm_chunks, stage_chunks = (Shape::rows + Shape::cols) * gemm_chunks;
  uint4* const smem = dynamic_smem<uint4>();
  const int x_rows = static_cast<int>(min(std::int64_t{Shape::rows}, g.rows - m));
  const int w_rows = static_cast<int>(min(std::int64_t{Shape::cols}, g.columns - n));
  const T* const x = g.x + m * g.ldx;
  const T* const w = g.w + n * g.ldw;
  const int steps = (g.depth + gemm_depth<T> - 1) / gemm_depth<T>;
  const auto fetch = [&](int step) {
    if (step < steps) {
      uint4* const stage = smem + step % gemm_stages * stage_chunks;
      const int k = step * gemm_depth<T>;
      copy_tile<Shape::rows, Shape::threads>(stage, x + k, g.ldx, x_rows, (g.depth - k) * static_cast<int>(sizeof(T)),
                                             x_place);
      copy_tile<Shape::cols, Shape::threads>(stage + x_chunks, w + k, g.ldw, w_rows, gemm_row_bytes, w_place);
    }
    cp_async_commit();  // empty beyond the end, so that one count fits all steps
  };

  for (int step = 0; step < gemm_stages - 1; ++step) fetch(step);
  for (int step = 0; step < steps; ++step) {
    cp_async_wait<gemm_stages - 2>();
    __syncthreads();  // every thread's copies of this step have arrived, and the stage before is no longer read
    fetch(step + gemm_stages - 1);
    const uint4* const stage = smem + step % gemm_stages * stage_chunks;
    sums.multiply(stage, stage + x_chunks);
  }
}

// --- epilogues -------------------------------------------------------------------------------------------------------
// Row r and the first column of run g of this lane's sums, within the block's tile.
template <class Shape>
__device__ int tile_row(int r) {
  return warp_index() / Shape::warps_n * Shape::warp_rows + r * 8 + lane_index() / 4;
}
template <class Shape>
__device__ int tile_column(int g) {
  return warp_index() % Shape::warps_n * Shape::warp_cols + g * 32 + lane_index() % 4 * run_columns;
}

// 8 neighbours of a row; aligned: `to` is a multiple of 16 bytes and all are inside, else the first `count` are.
template <class Out>
__device__ void store_run(Out* to, const float (&v)[run_columns], bool aligned, std::int64_t count) {
  if (!aligned) {
#pragma unroll
    for (int c = 0; c < run_columns; ++c) {
      if (c < count) to[c] = round_to<Out>(v[c]);
    }
  } else if constexpr (sizeof(Out) == 4) {
    reinterpret_cast<float4*>(to)[0] = make_float4(v[0], v[1], v[2], v[3]);
    reinterpret_cast<float4*>(to)[1] = make_float4(v[4], v[5], v[6], v[7]);
  } else {
    *reinterpret_cast<uint4*>(to) = make_uint4(pack_pair<Out>(v[0], v[1]), pack_pair<Out>(v[2], v[3]),
                                               pack_pair<Out>(v[4], v[5]), pack_pair<Out>(v[6], v[7]));
  }
}

// y [T,N] = sums, rounded once.
template <class Out, class T, class Shape>
__device__ void store_sums(Out* y, Sums<T, Shape>& sums, const GemmOperands<T>& g, std::int64_t m, std::int64_t n) {
  const bool aligned = g.columns % run_columns == 0 && reinterpret_cast<std::uintptr_t>(y) % gemm_chunk == 0;
#pragma unroll
  for (int r = 0; r < Shape::lane_rows; ++r) {
    const std::int64_t row = m + tile_row<Shape>(r);
#pragma unroll
    for (int run = 0; run < Shape::lane_runs; ++run) {
      const std::int64_t column = n + tile_column<Shape>(run);
      if (row >= g.rows || column >= g.columns) continue;
      float v[run_columns];
#pragma unroll
      for (int c = 0; c < run_columns; ++c) v[c] = sums.at(r, run, c);
      store_run(y + row * g.columns + column, v, aligned, g.columns - column);
    }
  }
}

// y = sums + bias
template <class Out>
struct StoreLinear {
  Out* y;             // [T, N]
  const float* bias;  // [N] or null

  template <class T, class Shape>
  __device__ void operator()(Sums<T, Shape>& sums, const GemmOperands<T>& g, std::int64_t m, std::int64_t n) const {
    if (bias != nullptr) {
#pragma unroll
      for (int run = 0; run < Shape::lane_runs; ++run) {
#pragma unroll
        for (int c = 0; c < run_columns; ++c) {
          const std::int64_t column = n + tile_column<Shape>(run) + c;
          const float b = column < g.columns ? bias[column] : 0.0f;
#pragma unroll
          for (int r = 0; r < Shape::lane_rows; ++r) sums.at(r, run, c) += b;
        }
      }
    }
    store_sums(y, sums, g, m, n);
  }
};

// --- kernel and launcher ---------------------------------------------------------------------------------------------
struct TileIndex {
  std::int64_t row, column;  // in tiles
};

// Blocks run about in the order of their numbers: bands of 8 tile rows, column by column, so that the blocks under way
// together share rows of x and of w in the L2 cache.
__device__ inline TileIndex tile_of_block(std::int64_t tile_rows, std::int64_t tile_columns) {
  constexpr std::int64_t band_rows = 8;
  const std::int64_t block = blockIdx.x, first = block / (band_rows * tile_columns) * band_rows;
  const std::int64_t height = min(band_rows, tile_rows - first), inside = block % (band_rows * tile_columns);
  return {first + inside % height, inside / height};
}

template <class T, class Shape, class Epilogue>
__global__ void __launch_bounds__(Shape::threads) gemm_kernel(const Epilogue epilogue,  // with the outputs
                                                              const GemmOperands<T> g) {
  const TileIndex tile = tile_of_block(tiles(g.rows, Shape::rows), tiles(g.columns, Shape::cols));
  const std::int64_t m = tile.row * Shape::rows, n = tile.column * Shape::cols;
  Sums<T, Shape> sums;
  multiply_tile(sums, g, m, n);
  epilogue(sums, g, m, n);
}

template <class Shape>
std::int64_t tiles_of(const GemmShape& g) {
  return tiles(g.rows, Shape::rows) * tiles(g.columns, Shape::cols);
}

template <class T, class Shape, class Epilogue>
void launch_tiles(const char* name, const Epilogue& epilogue, const GemmShape& g, std::size_t out_bytes,
                  Stream stream) {
  const auto rows = static_cast<double>(g.rows), columns = static_cast<double>(g.columns);
  const auto depth = static_cast<double>(g.depth);
  launch(name, gemm_kernel<T, Shape, Epilogue>,
         {.grid = static_cast<unsigned>(tiles_of<Shape>(g)),
          .block = Shape::threads,
          .smem = Shape::smem,
          .stream = stream,
          .flops = 2.0 * rows * columns * depth,
          .bytes = sizeof(T) * depth * (rows + columns) + static_cast<double>(out_bytes)},
         epilogue, operands<T>(g));
}

// The widest tiles that keep the GPU busy; results do not depend on the choice.
template <class T, class Epilogue>
void launch_gemm(const char* name, const Epilogue& epilogue, const GemmShape& g, std::size_t out_bytes, Stream stream) {
  if (tiles_of<WideTile<T>>(g) >= enough_tiles)
    launch_tiles<T, WideTile<T>>(name, epilogue, g, out_bytes, stream);
  else
    launch_tiles<T, NarrowTile>(name, epilogue, g, out_bytes, stream);
}

}  // namespace ptq::cuda

// Sums of outer products of a matrix' rows, one tile of S = X^T X by one block: what gram.cu, factor.cu and
// gram_loss.cu have in common. They differ in what they do with the sums.
//   shapes    X (R, I)   S (I, I), cut into tiles of side x side of which those on or above the diagonal are formed
//   maps      X is read `depth` rows at a time, columns i.. and j.. of it, into a ring of stages in shared memory.
//             MmaTile (halves): 4 warps of 64 x 64 each, mma.m16n8k16. Both operands lie as rows of X, so both are
//             fetched by transposing ldmatrix. FmaTile (float, double): 16 x 16 threads of 8 x 8 or 4 x 4 each.
//   chain     every element is one chain over the rows, in their order
#pragma once

#include "cuda/block.cuh"
#include "cuda/chunk.cuh"
#include "cuda/ptx.cuh"

#include <algorithm>
#include <cmath>
#include <type_traits>

namespace ptq::cuda {

// Where a tile of S begins.
struct TileCorner {
  int i, j;
};

// Blocks walk over the upper triangle in squares of 8 x 8 tiles: the 64 blocks of a square, at work at the same time,
// share 16 panels of X in the second-level cache. Some corners lie below the diagonal or beyond the edge.
constexpr int tile_square = 8;

inline unsigned upper_tile_count(std::int64_t n, int side) {
  const std::int64_t squares = tiles(n, std::int64_t{tile_square} * side);
  return static_cast<unsigned>(squares * (squares + 1) / 2 * tile_square * tile_square);
}
__device__ inline TileCorner upper_tile(unsigned block, int side) {
  int row = static_cast<int>(block / (tile_square * tile_square)), column = 0;  // of the square, column by column
  while (row > column) row -= ++column;
  const int within = static_cast<int>(block % (tile_square * tile_square));
  return {(row * tile_square + within / tile_square) * side, (column * tile_square + within % tile_square) * side};
}

// A thread's sums are `rows` rows of `pairs` pairs each, at (row() + row_step(r), col() + col_step(p)) of the tile;
// what is done with those of a row can be under way together.
template <class T>
class FmaTile {
 public:
  using Element = T;
  static constexpr int edge = 16;       // threads each way
  static constexpr int per = chunk<T>;  // elements of 16 bytes
  static constexpr int each = 2 * per;  // a thread's rows and columns: 64 or 32 registers of sums, so that two
                                        // blocks fit an SM, and 4 chunks read for 64 or 16 multiply-adds
  static constexpr int side = edge * each, depth = 16, threads = edge * edge;
  static constexpr int rows = each, pairs = each / 2;

  __device__ FmaTile(TileCorner, std::int64_t) {}

  __device__ static constexpr int slot(int row, int unit) { return row * side + unit * per; }

  __device__ void multiply(const T* left, const T* right) {
#pragma unroll 2
    for (int k = 0; k < depth; ++k) {
      Chunk a[2], b[2];
#pragma unroll
      for (int g = 0; g < 2; ++g) {
        a[g] = *reinterpret_cast<const Chunk*>(left + slot(k, g * edge + y()));
        b[g] = *reinterpret_cast<const Chunk*>(right + slot(k, g * edge + x()));
      }
#pragma unroll
      for (int i = 0; i < each; ++i) {
#pragma unroll
        for (int j = 0; j < each; ++j)
          sum_[i][j] = std::fma(a[i / per].at[i % per], b[j / per].at[j % per], sum_[i][j]);
      }
    }
  }

  __device__ int row() const { return y() * per; }
  __device__ int col() const { return x() * per; }
  __device__ static constexpr int row_step(int r) { return step(r); }
  __device__ static constexpr int col_step(int p) { return step(2 * p); }
  __device__ T* sum(int r, int p) { return &sum_[r][2 * p]; }

 private:
  struct alignas(16) Chunk {
    T at[per];
  };

  __device__ static int x() { return static_cast<int>(threadIdx.x) % edge; }
  __device__ static int y() { return static_cast<int>(threadIdx.x) / edge; }
  // A thread's lines are two chunks, half a tile apart, so that neighbouring threads read neighbouring chunks.
  __device__ static constexpr int step(int i) { return i / per * (edge * per) + i % per; }

  T sum_[each][each] = {};
};

template <class T>
class MmaTile {
 public:
  using Element = T;
  static constexpr int side = 128;  // 2 x 2 warps of 64 x 64: 32 mma for 8 ldmatrix_x4, 128 registers of sums
  static constexpr int depth = 32, threads = 4 * warp_lanes;
  static constexpr int rows = 8, pairs = 8;

  __device__ MmaTile(TileCorner at, std::int64_t n)
      : lane_(lane_index()), row_(warp_index() / 2 * edge), col_(warp_index() % 2 * edge) {
    needed_ = at.i + row_ < n && at.j + col_ < n && at.i + row_ < at.j + col_ + edge;
  }

  // Chunks of 8 elements change places within a row: ldmatrix takes the same chunk of 8 rows, from 8 groups of banks.
  __device__ static constexpr int slot(int row, int unit) { return row * side + (unit ^ row % 8) * 8; }

  __device__ void multiply(const T* left, const T* right) {
    if (!needed_) return;
#pragma unroll
    for (int k = 0; k < depth; k += 16) {
      std::uint32_t a[4][4], b[8][2];
#pragma unroll
      for (int m = 0; m < 4; ++m) {  // matrices: (k, m), (k, m + 8), (k + 8, m), (k + 8, m + 8)
        const int row = k + lane_ / 16 * 8 + lane_ % 8, unit = row_ / 8 + m * 2 + lane_ / 8 % 2;
        ldmatrix_x4_transposed(a[m], left + slot(row, unit));
      }
#pragma unroll
      for (int n = 0; n < 8; n += 2) {  // matrices: (k, n), (k + 8, n), (k, n + 8), (k + 8, n + 8)
        const int row = k + lane_ / 8 % 2 * 8 + lane_ % 8, unit = col_ / 8 + n + lane_ / 16;
        std::uint32_t both[4];
        ldmatrix_x4_transposed(both, right + slot(row, unit));
        b[n][0] = both[0], b[n][1] = both[1];
        b[n + 1][0] = both[2], b[n + 1][1] = both[3];
      }
#pragma unroll
      for (int m = 0; m < 4; ++m) {
#pragma unroll
        for (int n = 0; n < 8; ++n) mma_16816<T>(sum_[m][n], a[m], b[n]);
      }
    }
  }

  __device__ int row() const { return row_ + mma_c_row(lane_, 0); }
  __device__ int col() const { return col_ + mma_c_col(lane_, 0); }
  __device__ static constexpr int row_step(int r) { return r / 2 * 16 + mma_c_row(0, r % 2 * 2); }
  __device__ static constexpr int col_step(int p) { return p * 8; }
  __device__ float* sum(int r, int p) { return &sum_[r / 2][p][r % 2 * 2]; }

 private:
  static constexpr int edge = 64;  // of a warp's part

  int lane_, row_, col_;
  bool needed_;  // whether any of the warp's sums lies inside of S and not below the diagonal
  float sum_[4][8][4] = {};
};

// Two neighbours of a row.
template <class T>
using Neighbours = std::conditional_t<std::is_same_v<std::remove_const_t<T>, float>, float2, double2>;

// The elements of a matrix in memory that belong to this thread's sums of a tile, by pairs of neighbours. Those beyond
// the edges are 0 and are not stored. With `vector` a pair is one access and exists as a whole or not at all.
template <class Tile, class T, bool vector>
class TileMemory {
 public:
  __device__ TileMemory(const Tile& tile, T* matrix, std::int64_t rows, std::int64_t stride, TileCorner at)
      : first_(matrix + opaque((at.i + tile.row()) * stride + at.j + tile.col())),
        stride_(stride),
        rows_(static_cast<int>(std::clamp<std::int64_t>(rows - at.i - tile.row(), 0, Tile::side))),
        cols_(static_cast<int>(std::clamp<std::int64_t>(stride - at.j - tile.col(), 0, Tile::side))) {}

  // Every pair becomes f(pair, its sums in the tile, column of its first within the tile's).
  template <class F>
  __device__ void update(Tile& tile, F f) const {
#pragma unroll
    for (int r = 0; r < Tile::rows; ++r) {
      Neighbours<T> old[Tile::pairs];  // loads of a row in flight together
#pragma unroll
      for (int p = 0; p < Tile::pairs; ++p) old[p] = load(r, p);
#pragma unroll
      for (int p = 0; p < Tile::pairs; ++p) store(r, p, f(old[p], tile.sum(r, p), tile.col() + Tile::col_step(p)));
    }
  }

  __device__ Neighbours<T> load(int r, int p) const {
    Neighbours<T> pair{};
    if (!inside(r, p)) return pair;
    if constexpr (vector) {
      pair = *reinterpret_cast<const Neighbours<T>*>(place(r, p));
    } else {
      pair.x = place(r, p)[0];
      if (Tile::col_step(p) + 1 < cols_) pair.y = place(r, p)[1];
    }
    return pair;
  }
  __device__ void store(int r, int p, Neighbours<T> pair) const {
    if (!inside(r, p)) return;
    if constexpr (vector) {
      *reinterpret_cast<Neighbours<T>*>(place(r, p)) = pair;
    } else {
      place(r, p)[0] = pair.x;
      if (Tile::col_step(p) + 1 < cols_) place(r, p)[1] = pair.y;
    }
  }

 private:
  __device__ bool inside(int r, int p) const { return Tile::row_step(r) < rows_ && Tile::col_step(p) < cols_; }
  __device__ T* place(int r, int p) const { return first_ + Tile::row_step(r) * stride_ + Tile::col_step(p); }

  T* first_;
  std::int64_t stride_;
  int rows_, cols_;  // from the first on
};

// What a tile needs of x [rows, n]: columns [i, i + side) and [j, j + side), `depth` rows at a time; zeros beyond the
// edges. With `vector` in asynchronous copies of 16 bytes, else by single elements.
template <class Tile, bool vector>
class Operands {
  using T = typename Tile::Element;
  static constexpr int per = chunk<T>, chunks = Tile::side / per, rows_at_once = Tile::threads / chunks;
  static_assert(Tile::depth % rows_at_once == 0, "a step must be a whole number of copies of the block");

 public:
  static constexpr int elements = 2 * Tile::depth * Tile::side;  // of a step

  __device__ Operands(const T* x, int rows, std::int64_t n, TileCorner at)
      : rows_left_(rows - row()),
        stride_(n),
        from_{x + row() * n + at.i + unit() * per, x + row() * n + at.j + unit() * per},
        inside_{inside(n - at.i), inside(n - at.j)} {}

  __device__ void load_next(T* to) {
#pragma unroll
    for (int r = 0; r < Tile::depth; r += rows_at_once) {
#pragma unroll
      for (int side = 0; side < 2; ++side) {
        copy(to + side * (elements / 2) + Tile::slot(row() + r, unit()), from_[side],
             rows_left_ > r ? inside_[side] : 0);
        from_[side] += rows_at_once * stride_;
      }
    }
    rows_left_ -= Tile::depth;
  }

 private:
  __device__ static int row() { return static_cast<int>(threadIdx.x) / chunks; }
  __device__ static int unit() { return static_cast<int>(threadIdx.x) % chunks; }
  __device__ static int inside(std::int64_t columns) {
    return static_cast<int>(std::clamp<std::int64_t>(columns - unit() * per, 0, per));
  }
  __device__ void copy(T* to, const T* from, int count) const {
    if constexpr (vector) {
      cp_async_16(to, from, count * static_cast<int>(sizeof(T)));
    } else {
#pragma unroll
      for (int e = 0; e < per; ++e) to[e] = e < count ? from[e] : T{};
    }
  }

  int rows_left_;  // from this thread's first row on
  std::int64_t stride_;
  const T* from_[2];
  int inside_[2];  // elements of this thread's chunk
};

constexpr int ring_stages = 3;  // two steps under way while one is multiplied, and two blocks fit 100 KB (sm_89)
template <class Tile>
constexpr std::size_t ring_bytes = std::size_t{ring_stages} * Operands<Tile, true>::elements *
                                   sizeof(typename Tile::Element);

// Adds the outer products of the rows of x [rows, n] to the tile's sums. use() after every `every` rows (a multiple of
// the depth) and after the last.
template <bool vector, class Tile, class Use>
__device__ void sum_outer_products(Tile& tile, const typename Tile::Element* x, int rows, std::int64_t n, TileCorner at,
                                   int every, Use&& use) {
  auto* ring = dynamic_smem<typename Tile::Element>();
  const auto stage = [=](int step) { return ring + step % ring_stages * Operands<Tile, vector>::elements; };
  Operands<Tile, vector> operands(x, rows, n, at);
  const int steps = static_cast<int>(tiles(rows, Tile::depth));
  const auto fetch = [&](int step) {
    if (step < steps) operands.load_next(stage(step));
    cp_async_commit();  // a group for every step, even an empty one, so that the wait counts right
  };
  for (int step = 0; step < ring_stages - 1; ++step) fetch(step);
  for (int step = 0; step < steps; ++step) {
    cp_async_wait<ring_stages - 2>();
    __syncthreads();  // this step is there for all, and the stage of the last one is no longer read
    fetch(step + ring_stages - 1);
    tile.multiply(stage(step), stage(step) + Operands<Tile, vector>::elements / 2);
    if ((step + 1) % (every / Tile::depth) == 0 || step + 1 == steps) use();
  }
}

// The same of all rows, without use().
template <bool vector, class Tile>
__device__ void sum_outer_products(Tile& tile, const typename Tile::Element* x, int rows, std::int64_t n,
                                   TileCorner at) {
  sum_outer_products<vector>(tile, x, rows, n, at, Tile::depth, [] {});
}

}  // namespace ptq::cuda

// The factor of the inverse Hessian in one sweep over blocks of 64 columns, from the last to the first
//   formula   H = R R^T, R upper (the Cholesky factor of the index-reversed H);   U = R^-1, so that H^-1 = U^T U.
//             With H cut at block k into rows a above it, k itself and columns b behind it, a step is
//               R_kk R_kk^T = H_kk                                           factor_tile
//               Y = R_kk^-1 [ H_ak^T | 1 | H_kb ]                            factor_solve: R_ak^T, U_kk and U_kb
//               row k of H <- [ 0 | Y_k | Y_b ]                                 is done: row k of U
//               H_a <- [ H_aa | 0 | H_ab ] - Y_a^T Y                         factor_update
//             H_aa is the Schur complement still to be factored, H_ab what is left of the right-hand side of R U = 1.
//   shapes    H (n, n), R_kk (64, 64), Y (64, n), all f32 or all f64
//   maps      factor_tile: one block of 16 x 16 threads, 4 x 4 elements each. factor_solve: block ↔ 64 columns of Y.
//             factor_update: block ↔ tile of H on or above the diagonal (gram_tile.cuh). 3 n / 64 launches, no waiting.
//   cost      2/3 n^3 flops: compute-bound (the first two kernels by latency)
//   twin      host/cpu/factor.cpp     test  tests/test_ops_quant.cpp     chain  n, rounded every 64 terms
#include "cuda/factor.h"

#include "cuda/gram_tile.cuh"

#include <limits>

namespace ptq::cuda {

namespace {

constexpr int nb = factor_block;  // short chains of dependent steps, yet 64 multiply-adds per element of H read
constexpr int edge = 16;          // threads each way
constexpr int each = nb / edge;   // rows and columns of a thread, `edge` apart
constexpr int threads = edge * edge;
static_assert(nb == edge * each && each == 4, "a thread holds 4 x 4 elements of a tile");

// Column c of R above the diagonal is column c of H, less the columns behind it, over the root of its last element.
template <class T>
__global__ void __launch_bounds__(threads)
    factor_tile_kernel(T* __restrict__ tile,     // (64, 64) R_kk transposed, with 1 / R_cc on the diagonal
                       std::int32_t* failed,     // (1)
                       const T* __restrict__ h,  // (n, n)
                       std::int64_t n,           //
                       std::int64_t k) {         // first row and column of the block
  if (*failed != 0) return;
  T* columns = dynamic_smem<T>();  // [2, nb]: that of this step and, still being read, of the last
  const int x = static_cast<int>(threadIdx.x) % edge, y = static_cast<int>(threadIdx.x) / edge;
  T a[each][each];  // rows y + edge i, columns x + edge j; 1 beyond the edge of H
  const T* corner = h + k * n + k;
  for (int i = 0; i < each; ++i) {
    for (int j = 0; j < each; ++j) {
      const int row = y + edge * i, col = x + edge * j;
      a[i][j] = row <= col && k + col < n ? corner[row * n + col] : T(row == col);
    }
  }
#pragma unroll
  for (int block = each - 1; block >= 0; --block) {
    for (int owner = edge - 1; owner >= 0; --owner) {
      const int c = block * edge + owner;
      T* column = columns + c % 2 * nb;
      if (x == owner) {
        for (int i = 0; i < each; ++i) column[y + edge * i] = a[i][block];
      }
      __syncthreads();  // column c is complete, and nobody reads column c + 2 any more
      const T pivot = column[c];
      if (!(pivot > T(0)) || pivot > std::numeric_limits<T>::max()) {  // the same in all threads
        if (threadIdx.x == 0) *failed = 1;
        return;
      }
      const T inverse = T(1) / std::sqrt(pivot);
      T left[each], right[each];
      for (int i = 0; i < each; ++i) {
        left[i] = column[y + edge * i] * inverse;
        right[i] = column[x + edge * i] * inverse;
      }
      if (x == owner) {
        for (int i = 0; i < each; ++i) {
          const int row = y + edge * i;
          tile[c * nb + row] = row < c ? left[i] : row == c ? inverse : T(0);
        }
      }
      for (int i = 0; i < each; ++i) {
        for (int j = 0; j <= block; ++j) a[i][j] = std::fma(-left[i], right[j], a[i][j]);
      }
    }
  }
}

// Back substitution, a row of Y at a time. A right-hand side is a row of H above the block, a column of the identity,
// or a column of H behind the block; threads are laid out so that lanes follow memory.
template <class T>
__global__ void __launch_bounds__(threads)
    factor_solve_kernel(T* __restrict__ h,           // (n, n)
                        T* __restrict__ solved,      // (64, width) Y
                        const T* __restrict__ tile,  // (64, 64) as factor_tile_kernel leaves it
                        const std::int32_t* failed,  // (1)
                        std::int64_t n,              //
                        std::int64_t width,          // n, rounded up to whole blocks
                        std::int64_t k) {            // first row and column of the block
  if (*failed != 0) return;
  T* factor = dynamic_smem<T>();                             // [nb, nb]
  T* y = factor + nb * nb;                                   // [nb, nb]
  const std::int64_t first = std::int64_t{blockIdx.x} * nb;  // column of Y
  const bool above = first < k;
  const int thread = static_cast<int>(threadIdx.x), fast = thread % edge, slow = thread / edge;
  const int row = above ? fast : slow, col = above ? slow : fast;
  for (int at = thread; at < nb * nb; at += threads) factor[at] = tile[at];
  T v[each][each];  // rows row + edge i, columns col + edge j
  for (int i = 0; i < each; ++i) {
    for (int j = 0; j < each; ++j) {
      const int m = row + edge * i, c = col + edge * j;
      if (above) {
        v[i][j] = k + m < n ? h[(first + c) * n + k + m] : T(0);
      } else if (first == k) {
        v[i][j] = T(m == c);
      } else {
        v[i][j] = first + c < n ? h[(k + m) * n + first + c] : T(0);
      }
    }
  }
  __syncthreads();  // factor is complete
#pragma unroll
  for (int block = each - 1; block >= 0; --block) {
    for (int owner = edge - 1; owner >= 0; --owner) {
      const int m = block * edge + owner;
      if (row == owner) {
        for (int j = 0; j < each; ++j) y[m * nb + col + edge * j] = v[block][j] * factor[m * nb + m];
      }
      __syncthreads();  // row m of Y is complete
      for (int i = 0; i <= block; ++i) {
        if (row + edge * i >= m) continue;
        const T r = factor[m * nb + row + edge * i];
        for (int j = 0; j < each; ++j) v[i][j] = std::fma(-r, y[m * nb + col + edge * j], v[i][j]);
      }
    }
  }
  for (int at = thread; at < nb * nb; at += threads) {
    const int m = at / nb, c = at % nb;
    solved[m * width + first + c] = y[at];
    if (k + m < n && first + c < n) h[(k + m) * n + first + c] = above ? T(0) : y[at];
  }
}

template <class T, bool vector>
__global__ void __launch_bounds__(FmaTile<T>::threads, 2)
    factor_update_kernel(T* __restrict__ h,             // (n, n)
                         const T* __restrict__ solved,  // (64, width) Y
                         const std::int32_t* failed,    // (1)
                         std::int64_t n,                //
                         std::int64_t width,            // n, rounded up to whole blocks
                         std::int64_t k) {              // first row and column of the block
  using Tile = FmaTile<T>;
  const TileCorner at{static_cast<int>(blockIdx.y) * Tile::side, static_cast<int>(blockIdx.x) * Tile::side};
  if (at.j < at.i || *failed != 0) return;
  Tile tile(at, n);
  sum_outer_products<true>(tile, solved, nb, width, at);
  const TileMemory<Tile, T, vector> memory(tile, h, k, n, at);
  memory.update(tile, [&](Neighbours<T> old, const T* sum, int column) {
    const int col = at.j + column;
    if (k <= col && col < k + nb) old = {T(0), T(0)};  // of the right-hand side nothing is there yet
    return Neighbours<T>{old.x - sum[0], old.y - sum[1]};
  });
}

}  // namespace

template <class T>
void factor_inverse(T* h, T* tile, T* solved, std::int32_t* failed, std::int64_t n, Stream stream) {
  using Tile = FmaTile<T>;
  const std::int64_t width = factor_width(n);
  const bool vector = fits_vectors(n * static_cast<std::int64_t>(sizeof(T)), {h});
  const auto blocks = [](std::int64_t m, int side) { return static_cast<unsigned>(tiles(m, side)); };
  for (std::int64_t k = width - nb; k >= 0; k -= nb) {
    const auto rows = static_cast<double>(k), all = static_cast<double>(n), block = static_cast<double>(nb);
    const double elements = rows * (all - rows / 2);  // of H, above block k
    launch("factor_tile", factor_tile_kernel<T>,
           {.block = threads,
            .smem = 2 * nb * sizeof(T),
            .stream = stream,
            .flops = block * block * block / 3,
            .bytes = 2 * block * block * sizeof(T)},
           tile, failed, h, n, k);
    launch("factor_solve", factor_solve_kernel<T>,
           {.grid = blocks(n, nb),
            .block = threads,
            .smem = 2 * nb * nb * sizeof(T),
            .stream = stream,
            .flops = block * block * all,
            .bytes = 3 * block * all * sizeof(T)},
           h, solved, tile, failed, n, width, k);
    launch("factor_update", vector ? factor_update_kernel<T, true> : factor_update_kernel<T, false>,
           {.grid = {blocks(n, Tile::side), blocks(k, Tile::side)},
            .block = Tile::threads,
            .smem = ring_bytes<Tile>,
            .stream = stream,
            .flops = 2 * block * elements,
            .bytes = 2 * elements * sizeof(T)},
           h, solved, failed, n, width, k);
  }
}

template void factor_inverse<float>(float*, float*, float*, std::int32_t*, std::int64_t, Stream);
template void factor_inverse<double>(double*, double*, double*, std::int32_t*, std::int64_t, Stream);

}  // namespace ptq::cuda

// The upper factor U of H^-1 = U^T U with one Cholesky factorisation and one triangular inverse (2/3 n^3 multiply-adds
// instead of the textbook's potrf + potri + potrf, and H^-1, whose factorisation may fail, is never formed).
//
// With J the reversal of indices: J H J = S^T S (S upper) gives H = R R^T for R = J S^T J, so U = R^-1 = J S^-T J:
//   1. H <- J H J           2. H <- S           3. lower triangle <- W = S^-T           4. U = J W J
// All tiles are 64 x 64 and every sum has a fixed order, so the result does not depend on threads.
#include "host/cpu/cpu_ops.h"
#include "host/cpu/parallel.h"
#include "host/cpu/tile_product.h"
#include "host/op_checks.h"

#include <cmath>

namespace ptq {

namespace {

constexpr std::int64_t nb = 64;

template <class T>
struct Matrix {
  T* data;
  std::int64_t n;
  int threads;

  std::int64_t tiles() const { return (n + nb - 1) / nb; }
  std::int64_t width(std::int64_t tile) const { return std::min(nb, n - tile * nb); }
  T* tile(std::int64_t i, std::int64_t j) const { return data + i * nb * n + j * nb; }
};

template <class T>
void copy_tile(T* to, std::int64_t ldt, const T* from, std::int64_t ldf, std::int64_t rows, std::int64_t cols) {
  for (std::int64_t r = 0; r < rows; ++r) std::copy(from + r * ldf, from + r * ldf + cols, to + r * ldt);
}

// Upper triangle of J H J from the upper triangle of H: (i, j) and (n-1-j, n-1-i) change places.
template <class T>
void reverse_upper(const Matrix<T>& h) {
  const std::int64_t n = h.n;
  parallel_for(h.threads, h.tiles(), [&](std::int64_t ti) {
    for (std::int64_t tj = ti; tj < h.tiles(); ++tj) {
      for (std::int64_t i = ti * nb; i < ti * nb + h.width(ti); ++i) {
        const std::int64_t end = std::min(tj * nb + h.width(tj), n - 1 - i);
        for (std::int64_t j = std::max(i, tj * nb); j < end; ++j) {
          std::swap(h.data[i * n + j], h.data[(n - 1 - j) * n + n - 1 - i]);
        }
      }
    }
  });
}

// Unblocked Cholesky of one tile, A = S^T S. False if it is not positive definite.
template <class T>
bool factor_tile(T* a, std::int64_t lda, std::int64_t n) {
  for (std::int64_t r = 0; r < n; ++r) {
    T* row = a + r * lda;
    if (!(row[r] > 0) || !std::isfinite(row[r])) return false;
    const T d = std::sqrt(row[r]);
    row[r] = d;
    for (std::int64_t c = r + 1; c < n; ++c) row[c] /= d;
    for (std::int64_t s = r + 1; s < n; ++s) {
      const T x = row[s];
      for (std::int64_t c = s; c < n; ++c) a[s * lda + c] -= x * row[c];
    }
  }
  return true;
}

// Solves S^T X = B for X in place of B [n][cols] (ldb = nb); S upper with leading dimension lds. Forward
// substitution in blocks of 16 rows: the part left of a block is a tile product.
template <class T>
void solve(const T* s, std::int64_t lds, T* b, std::int64_t n, std::int64_t cols) {
  constexpr std::int64_t block = 16;
  for (std::int64_t r0 = 0; r0 < n; r0 += block) {
    const std::int64_t rows = std::min(block, n - r0);
    if (r0 > 0)
      tile_product<Left::columns, Into::subtract>(TileOperands<T, T>{b + r0 * nb, nb, s + r0, lds, b, nb}, rows, cols,
                                                  r0);
    for (std::int64_t r = r0; r < r0 + rows; ++r) {
      for (std::int64_t k = r0; k < r; ++k) {
        const T x = s[k * lds + r];
        for (std::int64_t c = 0; c < cols; ++c) b[r * nb + c] -= x * b[k * nb + c];
      }
      for (std::int64_t c = 0; c < cols; ++c) b[r * nb + c] /= s[r * lds + r];
    }
  }
}

// H = S^T S in place, upper triangle, right-looking.
template <class T>
bool cholesky(const Matrix<T>& h) {
  const std::int64_t n = h.n, tiles = h.tiles();
  Buffer<T> row(static_cast<std::size_t>(tiles * nb * nb));  // the current row of tiles, contiguous
  for (std::int64_t k = 0; k < tiles; ++k) {
    if (!factor_tile(h.tile(k, k), n, h.width(k))) return false;
    const std::int64_t rest = tiles - k - 1;
    parallel_for(h.threads, rest, [&](std::int64_t t) {
      const std::int64_t j = k + 1 + t;
      T* x = row.data() + j * nb * nb;
      copy_tile(x, nb, h.tile(k, j), n, nb, h.width(j));
      solve(h.tile(k, k), n, x, nb, h.width(j));
      copy_tile(h.tile(k, j), n, x, nb, nb, h.width(j));
    });
    parallel_for(h.threads, rest * rest, [&](std::int64_t t) {
      const std::int64_t i = k + 1 + t / rest, j = k + 1 + t % rest;
      if (j < i) return;
      const T *left = row.data() + i * nb * nb, *right = row.data() + j * nb * nb;
      tile_product<Left::columns, Into::subtract>(TileOperands<T, T>{h.tile(i, j), n, left, nb, right, nb}, h.width(i),
                                                  h.width(j), nb);
    });
  }
  return true;
}

// The lower triangle becomes W = S^-T. Column i of tiles of W solves S^T W = I, independently of the others:
//   S_jj^T W_ji = [i = j] - sum_{i <= k < j} S_kj^T W_ki.
// S stays in the upper triangle until all are done, so diagonal tiles wait outside.
template <class T>
void invert(const Matrix<T>& h) {
  const std::int64_t n = h.n, tiles = h.tiles();
  Buffer<T> diagonal(static_cast<std::size_t>(tiles * nb * nb));
  parallel_for(h.threads, tiles, [&](std::int64_t i) {
    const std::int64_t cols = h.width(i);
    T* w = scratch<T>(0, static_cast<std::size_t>((tiles - i) * nb * nb));  // W_ii, W_i+1,i, ... contiguous
    T* s = scratch<T>(1, static_cast<std::size_t>(nb * nb));
    for (std::int64_t j = i; j < tiles; ++j) {
      T* x = w + (j - i) * nb * nb;
      std::fill(x, x + nb * nb, T(0));
      if (i == j) {
        for (std::int64_t r = 0; r < cols; ++r) x[r * nb + r] = T(1);
      }
      for (std::int64_t k = i; k < j; ++k) {
        copy_tile(s, nb, h.tile(k, j), n, nb, h.width(j));
        tile_product<Left::columns, Into::subtract>(TileOperands<T, T>{x, nb, s, nb, w + (k - i) * nb * nb, nb},
                                                    h.width(j), cols, nb);
      }
      solve(h.tile(j, j), n, x, h.width(j), cols);
      if (i < j) copy_tile(h.tile(j, i), n, x, nb, h.width(j), cols);
    }
    copy_tile(diagonal.data() + i * nb * nb, nb, w, nb, cols, cols);
  });
  for (std::int64_t i = 0; i < tiles; ++i) {
    copy_tile(h.tile(i, i), n, diagonal.data() + i * nb * nb, nb, h.width(i), h.width(i));
  }
}

// U = J W J: row a of U is row n-1-a of W backwards; then the lower triangle is cleared.
template <class T>
void reverse_lower(const Matrix<T>& h) {
  const std::int64_t n = h.n;
  parallel_ranges(h.threads, (n + 1) / 2, nb, [&](std::int64_t begin, std::int64_t end) {
    T* copy = scratch<T>(0, static_cast<std::size_t>(n));
    for (std::int64_t a = begin; a < end; ++a) {
      const std::int64_t z = n - 1 - a;
      T *first = h.data + a * n, *second = h.data + z * n;
      std::copy(first, first + a + 1, copy);
      std::reverse_copy(second, second + z + 1, first + a);
      if (a != z) std::reverse_copy(copy, copy + a + 1, second + z);
      std::fill(first, first + a, T(0));
      std::fill(second, second + z, T(0));
    }
  });
}

template <class T>
bool factor(const Matrix<T>& h) {
  reverse_upper(h);
  if (!cholesky(h)) return false;
  invert(h);
  reverse_lower(h);
  return true;
}

}  // namespace

bool CpuOps::factor_inverse(const Tensor& h) {
  op_checks::factor_inverse(h);
  if (h.dtype() == DType::f64) return factor(Matrix<double>{h.data<double>(), h.dim(0), threads_});
  return factor(Matrix<float>{h.data<float>(), h.dim(0), threads_});
}

}  // namespace ptq

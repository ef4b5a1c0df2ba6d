// Grids, rounding to them, and the GPTQ column sweep (spec A.1, A.5).
#include "host/cpu/cpu_ops.h"
#include "host/cpu/parallel.h"
#include "host/cpu/row_grid.h"
#include "host/cpu/tile_product.h"
#include "host/op_checks.h"

#include <algorithm>
#include <cmath>

namespace ptq {

namespace {

// Rows are independent: a tile of them is swept by one thread, transposed so that a column is a few vectors.
constexpr std::int64_t tile_rows = 48;
constexpr std::int64_t panel_width = 64;  // columns of U packed together for the trailing update
static_assert(tile_rows % simd::lanes == 0);

// NaN (from a non-finite weight) becomes 0; the row error tells of it.
std::uint8_t to_u8(float code) { return static_cast<std::uint8_t>(code > 0.0f ? static_cast<int>(code) : 0); }

struct Sweep {
  float* w;
  std::uint8_t* codes;
  float *scales, *zeros;
  double* row_error;
  const float* u;
  const std::int32_t* g_idx;  // null: group parameters are computed on the way
  std::int64_t rows, columns, groups, group;
  GridSpec grid;
};

// A block of columns [begin, end) of U, copied so that a sweep reads it in order.
struct BlockFactor {
  std::int64_t begin, end;
  Buffer<float> inside;  // [j][i] = U[begin + i][begin + j], i <= j
  Buffer<float> panels;  // [panel][i][64] = U[begin + i][end + 64 panel ...]

  std::int64_t width() const { return end - begin; }
};

void pack_factor(const Sweep& s, BlockFactor& f, int threads) {
  const std::int64_t nb = f.width(), rest = s.columns - f.end;
  const std::int64_t panels = (rest + panel_width - 1) / panel_width;
  f.inside.resize(static_cast<std::size_t>(nb * nb));
  f.panels.resize(static_cast<std::size_t>(panels * nb * panel_width));
  for (std::int64_t i = 0; i < nb; ++i) {
    for (std::int64_t j = i; j < nb; ++j) f.inside[j * nb + i] = s.u[(f.begin + i) * s.columns + f.begin + j];
  }
  parallel_for(threads, panels, [&](std::int64_t p) {
    const std::int64_t width = std::min(panel_width, rest - p * panel_width);
    for (std::int64_t i = 0; i < nb; ++i) {
      const float* from = s.u + (f.begin + i) * s.columns + f.end + p * panel_width;
      std::copy(from, from + width, f.panels.data() + (p * nb + i) * panel_width);
    }
  });
}

// The grid of each row of the tile for the current column.
struct TileGrid {
  std::int64_t group = -1;
  float scale[tile_rows], zero[tile_rows];

  void choose(const Sweep& s, std::int64_t first, std::int64_t count, std::int64_t column) {
    const bool fixed = s.g_idx != nullptr;
    const std::int64_t g = fixed ? s.g_idx[column] : column / s.group;
    if (g == group) return;
    // On the way, a group is entered at its first column only; W still holds what earlier blocks left there.
    const std::int64_t width = fixed ? 0 : std::min(s.group, s.columns - column);
    for (std::int64_t r = 0; r < tile_rows; ++r) {
      const std::int64_t row = first + std::min(r, count - 1);
      const std::int64_t at = row * s.groups + g;
      if (!fixed && r < count) {
        const GridPoint p = grid_of(s.w + row * s.columns + column, width, s.grid);
        s.scales[at] = p.scale;
        s.zeros[at] = p.zero;
      }
      scale[r] = s.scales[at];
      zero[r] = s.zeros[at];
    }
    group = g;
  }
};

// w[r] -= sum over earlier columns i of error[i][r] U[i][j], in the reference's order and rounding.
void feed_forward(float* w, const float* error, const float* u, std::int64_t j) {
  constexpr int vectors = tile_rows / simd::lanes;
  simd::vfloat x[vectors];
  for (int v = 0; v < vectors; ++v) x[v] = simd::load(w + v * simd::lanes);
  for (std::int64_t i = 0; i < j; ++i) {
    const simd::vfloat factor = simd::splat(u[i]);
    for (int v = 0; v < vectors; ++v) x[v] -= simd::load(error + i * tile_rows + v * simd::lanes) * factor;
  }
  for (int v = 0; v < vectors; ++v) simd::store(w + v * simd::lanes, x[v]);
}

// Rounds one column of the tile in place; writes errors and codes, adds to the row errors.
void round_column(float* w, float* error, std::uint8_t* codes, double* row_error, const TileGrid& g, float d,
                  float levels) {
  float loss[tile_rows];
  for (std::int64_t r = 0; r < tile_rows; ++r) {
    const GridPoint p{g.scale[r], g.zero[r]};
    const float code = code_of(w[r], p, levels);
    const float q = value_of(code, p);
    const float delta = w[r] - q;
    codes[r] = to_u8(code);
    error[r] = delta / d;
    loss[r] = delta * delta / (d * d) / 2.0f;
    w[r] = q;
  }
  for (std::int64_t r = 0; r < tile_rows; ++r) row_error[r] += static_cast<double>(loss[r]);
}

// One block of columns of one tile of rows, and its effect on all later columns.
void sweep_tile(const Sweep& s, const BlockFactor& f, std::int64_t first, TileGrid& grid) {
  const std::int64_t count = std::min(tile_rows, s.rows - first), nb = f.width();
  float* w = scratch<float>(0, static_cast<std::size_t>(nb * tile_rows));      // W1, transposed
  float* error = scratch<float>(1, static_cast<std::size_t>(nb * tile_rows));  // E, transposed
  std::uint8_t* codes = scratch<std::uint8_t>(0, static_cast<std::size_t>(nb * tile_rows));
  double row_error[tile_rows] = {};
  std::fill(w, w + nb * tile_rows, 0.0f);
  for (std::int64_t r = 0; r < count; ++r) {
    const float* row = s.w + (first + r) * s.columns + f.begin;
    for (std::int64_t j = 0; j < nb; ++j) w[j * tile_rows + r] = row[j];
  }
  for (std::int64_t j = 0; j < nb; ++j) {
    const float* u = f.inside.data() + j * nb;
    float* column = w + j * tile_rows;
    grid.choose(s, first, count, f.begin + j);
    feed_forward(column, error, u, j);
    round_column(column, error + j * tile_rows, codes + j * tile_rows, row_error, grid, u[j],
                 static_cast<float>(s.grid.levels()));
  }
  for (std::int64_t r = 0; r < count; ++r) {
    float* row = s.w + (first + r) * s.columns + f.begin;
    std::uint8_t* code_row = s.codes + (first + r) * s.columns + f.begin;
    for (std::int64_t j = 0; j < nb; ++j) {
      row[j] = w[j * tile_rows + r];
      code_row[j] = codes[j * tile_rows + r];
    }
    s.row_error[first + r] += row_error[r];
  }
  for (std::int64_t c = f.end, p = 0; c < s.columns; c += panel_width, ++p) {
    const TileOperands<float, float> t{
        s.w + first * s.columns + c, s.columns, error, tile_rows, f.panels.data() + p * nb * panel_width, panel_width};
    tile_product<Left::columns, Into::subtract>(t, count, std::min(panel_width, s.columns - c), nb);
  }
}

}  // namespace

void CpuOps::group_grids(const Tensor& scales, const Tensor& zeros, const Tensor& w, const GridSpec& grid,
                         std::int64_t group) {
  const std::int64_t rows = w.rows(), columns = w.cols(), groups = group_count(columns, group);
  op_checks::group_grids(scales, zeros, w, group);
  const float* in = w.data<float>();
  const std::int64_t width = group < 0 ? columns : group;
  parallel_ranges(threads_, rows, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      for (std::int64_t g = 0; g < groups; ++g) {
        const GridPoint p = grid_of(in + r * columns + g * width, std::min(width, columns - g * width), grid);
        scales.data<float>()[r * groups + g] = p.scale;
        zeros.data<float>()[r * groups + g] = p.zero;
      }
    }
  });
}

void CpuOps::round_to_grids(const Tensor& w, const Tensor& codes, const Tensor& scales, const Tensor& zeros,
                            const Tensor& g_idx, const GridSpec& grid) {
  const std::int64_t rows = w.rows(), columns = w.cols();
  op_checks::round_to_grids(w, codes, scales, zeros);
  const std::int64_t groups = scales.dim(1);
  op_checks::column_groups("round_to_grids", g_idx, columns, groups);
  const auto levels = static_cast<float>(grid.levels());
  const auto* group = g_idx.data<std::int32_t>();
  parallel_ranges(threads_, rows, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      float* row = w.data<float>() + r * columns;
      std::uint8_t* code_row = codes.data<std::uint8_t>() + r * columns;
      for (std::int64_t c = 0; c < columns; ++c) {
        const GridPoint p{scales.data<float>()[r * groups + group[c]], zeros.data<float>()[r * groups + group[c]]};
        const float code = code_of(row[c], p, levels);
        code_row[c] = to_u8(code);
        row[c] = value_of(code, p);
      }
    }
  });
}

void CpuOps::gptq_sweep(const Tensor& w, const GroupedCodes& out, const Tensor& row_error, const Tensor& u,
                        const SweepSpec& spec, bool fixed_grids, const Tensor& g_idx) {
  const std::int64_t rows = w.rows(), columns = w.cols();
  const bool per_row = !fixed_grids && spec.group < 0;
  const std::int64_t groups = fixed_grids ? out.scales.dim(1) : group_count(columns, spec.group);
  op_checks::gptq_sweep(w, out, row_error, u, spec, fixed_grids);
  Tensor index = g_idx;
  if (per_row) {
    group_grids(out.scales, out.zeros, w, spec.grid, -1);
    index = Tensor::zeros(DType::i32, {columns});
  }
  if (fixed_grids) op_checks::column_groups("gptq_sweep", index, columns, groups);
  Sweep s{w.data<float>(),
          out.codes.data<std::uint8_t>(),
          out.scales.data<float>(),
          out.zeros.data<float>(),
          row_error.data<double>(),
          u.data<float>(),
          fixed_grids || per_row ? index.data<std::int32_t>() : nullptr,
          rows,
          columns,
          groups,
          spec.group,
          spec.grid};
  std::fill(s.row_error, s.row_error + rows, 0.0);
  const std::int64_t tiles = (rows + tile_rows - 1) / tile_rows;
  std::vector<TileGrid> grids(static_cast<std::size_t>(tiles));
  BlockFactor f;
  for (f.begin = 0; f.begin < columns; f.begin = f.end) {
    f.end = std::min<std::int64_t>(columns, f.begin + spec.block);
    pack_factor(s, f, threads_);
    parallel_for(threads_, tiles,
                 [&](std::int64_t t) { sweep_tile(s, f, t * tile_rows, grids[static_cast<std::size_t>(t)]); });
  }
}

}  // namespace ptq

// AWQ's scaled rounding and the exact loss of a linear (spec B.3).
#include "host/cpu/cpu_ops.h"
#include "host/cpu/parallel.h"
#include "host/cpu/quadratic_form.h"
#include "host/cpu/row_grid.h"
#include "host/op_checks.h"

namespace ptq {

namespace {

// out = Q(w t) / t for one group of a row, multiplied and divided in fp32 where llm-awq does.
void round_group(float* out, const float* w, const float* t, std::int64_t n, const GridSpec& grid) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = w[i] * t[i];
  const GridPoint g = grid_of(out, n, grid);
  const auto levels = static_cast<float>(grid.levels());
  for (std::int64_t i = 0; i < n; ++i) out[i] = value_of(code_of(out[i], g, levels), g) / t[i];
}

}  // namespace

void CpuOps::round_scaled(const Tensor& out, const Tensor& w, const Tensor& t, const GridSpec& grid,
                          std::int64_t group) {
  const std::int64_t rows = w.rows(), columns = w.cols(), width = group < 0 ? columns : group;
  op_checks::round_scaled(out, w, t, group);
  const float *from = w.data<float>(), *scale = t.data<float>();
  float* to = out.data<float>();
  parallel_ranges(threads_, rows, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      for (std::int64_t c = 0; c < columns; c += width) {
        const std::int64_t at = r * columns + c;
        round_group(to + at, from + at, scale + c, std::min(width, columns - c), grid);
      }
    }
  });
}

double CpuOps::gram_loss(const Tensor& d, const Tensor& g) {
  const std::int64_t rows = d.rows(), n = d.cols(), panels = (n + form_columns - 1) / form_columns;
  op_checks::gram_loss(d, g);
  const float *x = d.data<float>(), *gram = g.data<float>();
  std::vector<double> loss(static_cast<std::size_t>(panels));
  parallel_for(threads_, panels, [&](std::int64_t task) {
    const std::int64_t panel = panels - 1 - task;  // the longest first
    std::vector<double> sum(static_cast<std::size_t>(rows));
    for_form_blocks(panel, n, [&](const FormBlock& block) {
      float* packed = scratch<float>(0, static_cast<std::size_t>(form_depth * form_columns));
      pack_form_block(block, gram, n, packed);
      add_form_block(block, packed, x, n, rows, sum.data());
    });
    for (const double s : sum) loss[static_cast<std::size_t>(panel)] += s;
  });
  double total = 0.0;
  for (const double l : loss) total += l;
  return total;
}

}  // namespace ptq

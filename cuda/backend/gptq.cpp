// Grids, rounding to them, and the GPTQ column sweep.
#include "cuda/gptq.h"

#include "cuda/backend/cuda_ops.h"
#include "cuda/grids.h"

#include <algorithm>
#include <limits>

namespace ptq::cuda {

namespace {

void check_grids(const char* op, const Tensor& scales, const Tensor& zeros, std::int64_t rows, std::int64_t groups) {
  check(scales.rank() == 2 && scales.shape() == zeros.shape() && scales.dim(0) == rows &&
            (groups < 0 || scales.dim(1) == groups),
        "{}: scales {}, zeros {} for {} rows, {} groups", op, to_string(scales.shape()), to_string(zeros.shape()), rows,
        groups);
}

void check_index(CudaOps& ops, const char* op, const Tensor& g_idx, std::int64_t columns, std::int64_t groups) {
  check(g_idx.numel() == columns, "{}: g_idx {} for {} columns", op, to_string(g_idx.shape()), columns);
  const Tensor index = ops.to_host(g_idx);
  for (std::int32_t g : index.span<std::int32_t>()) check(0 <= g && g < groups, "{}: group {} of {}", op, g, groups);
}

// Kernels count rows and columns in 32 bits (their products in 64).
int to_int(std::int64_t n) {
  check(n <= std::numeric_limits<int>::max() - 1024, "a matrix of {} rows or columns", n);
  return static_cast<int>(n);
}

std::int64_t group_count(std::int64_t columns, std::int64_t group) {
  return group < 0 ? 1 : (columns + group - 1) / group;
}

}  // namespace

void CudaOps::group_grids(const Tensor& scales, const Tensor& zeros, const Tensor& w, const GridSpec& grid,
                          std::int64_t group) {
  const std::int64_t rows = w.rows(), columns = to_int(w.cols());
  check(group != 0, "group_grids: group 0");
  check_grids("group_grids", scales, zeros, rows, group_count(columns, group));
  if (rows == 0) return;
  cuda::group_grids(device_data<float>(scales), device_data<float>(zeros), device_data<float>(w), rows, columns,
                    group < 0 ? columns : group, grid, stream_);
}

void CudaOps::round_to_grids(const Tensor& w, const Tensor& codes, const Tensor& scales, const Tensor& zeros,
                             const Tensor& g_idx, const GridSpec& grid) {
  const std::int64_t rows = w.rows(), columns = to_int(w.cols());
  check_grids("round_to_grids", scales, zeros, rows, -1);
  check_index(*this, "round_to_grids", g_idx, columns, scales.dim(1));
  check(codes.shape() == w.shape(), "round_to_grids: codes {} for W {}", to_string(codes.shape()),
        to_string(w.shape()));
  cuda::round_to_grids(device_data<float>(w), device_data<std::uint8_t>(codes), device_data<float>(scales),
                       device_data<float>(zeros), device_data<std::int32_t>(g_idx), rows, columns, scales.dim(1), grid,
                       stream_);
}

void CudaOps::gptq_sweep(const Tensor& w, const GroupedCodes& out, const Tensor& row_error, const Tensor& u,
                         const SweepSpec& spec, bool fixed_grids, const Tensor& g_idx) {
  const std::int64_t rows = w.rows(), columns = w.cols();
  const std::int64_t groups = fixed_grids ? out.scales.dim(1) : group_count(columns, spec.group);
  check(spec.block > 0 && (fixed_grids || spec.group != 0), "gptq_sweep: block {}, group {}", spec.block, spec.group);
  check_grids("gptq_sweep", out.scales, out.zeros, rows, groups);
  check(out.codes.shape() == w.shape() && u.rows() == columns && u.cols() == columns && row_error.numel() == rows,
        "gptq_sweep: W {}, codes {}, U {}, row_error {}", to_string(w.shape()), to_string(out.codes.shape()),
        to_string(u.shape()), to_string(row_error.shape()));
  if (fixed_grids) check_index(*this, "gptq_sweep", g_idx, columns, groups);
  if (rows == 0) return;
  Sweep s{};
  s.w = device_data<float>(w);
  s.codes = device_data<std::uint8_t>(out.codes);
  s.scales = device_data<float>(out.scales);
  s.zeros = device_data<float>(out.zeros);
  s.row_error = device_data<double>(row_error);
  s.u = device_data<float>(u);
  s.g_idx = fixed_grids ? device_data<std::int32_t>(g_idx) : nullptr;
  s.rows = to_int(rows);
  s.columns = to_int(columns);
  s.groups = to_int(groups);
  s.group = to_int(spec.group < 0 ? columns : std::min(spec.group, columns));  // a grid per row is one group
  s.block = static_cast<int>(std::min<std::int64_t>(spec.block, columns));
  s.find_grids = !fixed_grids;
  s.grid = spec.grid;
  Tensor scratch;
  if (const std::size_t floats = sweep_scratch(rows, s.block); floats > 0) {
    scratch = empty(DType::f32, {static_cast<std::int64_t>(floats)});
    s.scratch = device_data<float>(scratch);
  }
  cuda::gptq_sweep(s, stream_);
}

}  // namespace ptq::cuda

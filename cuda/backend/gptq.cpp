// Grids, rounding to them, and the GPTQ column sweep.
#include "cuda/gptq.h"

#include "cuda/backend/cuda_ops.h"
#include "cuda/grids.h"
#include "host/op_checks.h"

#include <algorithm>
#include <limits>

namespace ptq::cuda {

namespace {

void check_groups(CudaOps& ops, const char* op, const Tensor& g_idx, std::int64_t columns, std::int64_t groups) {
  op_checks::column_groups(op, ops.to_host(g_idx), columns, groups);
}

// Kernels count rows and columns in 32 bits (their products in 64).
int to_int(std::int64_t n) {
  check(n <= std::numeric_limits<int>::max() - 1024, "a matrix of {} rows or columns", n);
  return static_cast<int>(n);
}

}  // namespace

void CudaOps::group_grids(const Tensor& scales, const Tensor& zeros, const Tensor& w, const GridSpec& grid,
                          std::int64_t group) {
  const std::int64_t rows = w.rows(), columns = to_int(w.cols());
  op_checks::group_grids(scales, zeros, w, group);
  if (rows == 0) return;
  cuda::group_grids(device_data<float>(scales), device_data<float>(zeros), device_data<float>(w), rows, columns,
                    group < 0 ? columns : group, grid, stream_);
}

void CudaOps::round_to_grids(const Tensor& w, const Tensor& codes, const Tensor& scales, const Tensor& zeros,
                             const Tensor& g_idx, const GridSpec& grid) {
  const std::int64_t rows = w.rows(), columns = to_int(w.cols());
  op_checks::round_to_grids(w, codes, scales, zeros);
  check_groups(*this, "round_to_grids", g_idx, columns, scales.dim(1));
  cuda::round_to_grids(device_data<float>(w), device_data<std::uint8_t>(codes), device_data<float>(scales),
                       device_data<float>(zeros), device_data<std::int32_t>(g_idx), rows, columns, scales.dim(1), grid,
                       stream_);
}

void CudaOps::gptq_sweep(const Tensor& w, const GroupedCodes& out, const Tensor& row_error, const Tensor& u,
                         const SweepSpec& spec, bool fixed_grids, const Tensor& g_idx) {
  const std::int64_t rows = w.rows(), columns = w.cols();
  op_checks::gptq_sweep(w, out, row_error, u, spec, fixed_grids);
  if (fixed_grids) check_groups(*this, "gptq_sweep", g_idx, columns, out.scales.dim(1));
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
  s.groups = to_int(out.scales.dim(1));
  s.group = to_int(spec.group < 0 ? columns : std::min(spec.group, columns));  // a grid per row is one group
  s.block = static_cast<int>(std::min<std::int64_t>(spec.block, columns));
  s.find_grids = !fixed_grids;
  s.grid = spec.grid;
  Tensor scratch;
  if (const std::size_t floats = launchers_.sweep_scratch(s); floats > 0) {
    scratch = empty(DType::f32, {static_cast<std::int64_t>(floats)});
    s.scratch = device_data<float>(scratch);
  }
  launchers_.gptq_sweep(s, stream_);
}

}  // namespace ptq::cuda

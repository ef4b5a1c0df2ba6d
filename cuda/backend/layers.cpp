// The memory-bound layers: checks, then a launch.
#include "cuda/layers.h"
#include "cuda/backend/cuda_ops.h"
#include "cuda/statistics.h"
#include "host/op_checks.h"

#include <numeric>

namespace ptq::cuda {

namespace {

// A device's f32 tensor, null if it is empty.
const float* floats(const Tensor& t) { return t ? device_data<float>(t) : nullptr; }

}  // namespace

RowIndex CudaOps::row_index(const Tensor& index, const Tensor& table, RowOp op) const {
  return {device_data<std::int32_t>(index), table.rows(), fault_, static_cast<std::int32_t>(op)};
}

void CudaOps::embed(const Tensor& y, const Tensor& ids, const Tensor& table, float scale) {
  op_checks::embed(y, ids, table);
  cuda::embed(device_raw(y), row_index(ids, table, RowOp::embed), device_raw(table), y.dtype(), y.rows(), y.cols(),
              scale, stream_);
}

void CudaOps::add_rows(const Tensor& x, const Tensor& index, const Tensor& table) {
  op_checks::add_rows(x, index, table);
  cuda::add_rows(device_raw(x), row_index(index, table, RowOp::add_rows), device_raw(table), x.dtype(), x.rows(),
                 x.cols(), stream_);
}

void CudaOps::norm(const Tensor& y, const Tensor& x, const Tensor& w, const Tensor& b, const NormSpec& spec) {
  op_checks::norm(y, x, w, b);
  cuda::norm(device_raw(y), device_raw(x), floats(w), floats(b), x.dtype(), x.rows(), x.cols(), w.rows(), spec,
             stream_);
}

void CudaOps::rope(const Tensor& x, const Tensor& cos, const Tensor& sin, int heads, RopeStyle style) {
  op_checks::rope(x, cos, sin, heads);
  cuda::rope(device_raw(x), floats(cos), floats(sin), x.dtype(), x.rows(), heads, static_cast<int>(x.cols() / heads),
             static_cast<int>(cos.cols()), style, stream_);
}

void CudaOps::activate(const Tensor& y, const Tensor& gate, const Tensor& up, Activation act) {
  op_checks::activate(y, gate, up);
  cuda::activate(device_raw(y), device_raw(gate), up ? device_raw(up) : nullptr, y.dtype(), y.numel(), act, stream_);
}

void CudaOps::add(const Tensor& x, const Tensor& y) {
  op_checks::add(x, y);
  cuda::add(device_raw(x), device_raw(y), x.dtype(), x.numel(), stream_);
}

void CudaOps::gather_rows(const Tensor& y, const Tensor& x, const Tensor& rows) {
  op_checks::gather_rows(y, x, rows);
  cuda::gather_rows(device_raw(y), row_index(rows, x, RowOp::gather_rows), device_raw(x), y.rows(),
                    y.cols() * static_cast<std::int64_t>(size_of(y.dtype())), stream_);
}

std::int64_t CudaOps::count_nonfinite(const Tensor& x) {
  const Tensor totals = empty(DType::i32, {total_pieces(x.numel())});
  cuda::count_nonfinite(device_data<std::int32_t>(totals), device_raw(x), x.dtype(), x.numel(), stream_);
  const Tensor host = to_host(totals);
  const auto pieces = host.span<std::int32_t>();
  return std::accumulate(pieces.begin(), pieces.end(), std::int64_t{0});
}

}  // namespace ptq::cuda

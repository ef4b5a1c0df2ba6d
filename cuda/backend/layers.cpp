// The memory-bound layers: checks, then a launch.
#include "cuda/layers.h"
#include "cuda/backend/cuda_ops.h"
#include "cuda/statistics.h"

#include <numeric>

namespace ptq::cuda {

namespace {

void check_rows(const char* op, const Tensor& y, const Tensor& x) {
  check(y.dtype() == x.dtype() && y.cols() == x.cols(), "{}: {} {} and {} {}", op, name_of(y.dtype()),
        to_string(y.shape()), name_of(x.dtype()), to_string(x.shape()));
}

// A device's f32 tensor, null if it is empty.
const float* floats(const Tensor& t) { return t ? device_data<float>(t) : nullptr; }

// `count` row numbers of a table of `rows` rows. Kernels trust them, so they are looked at on the host: they are few,
// and came from there.
const std::int32_t* row_numbers(CudaOps& ops, const char* op, const Tensor& numbers, std::int64_t count,
                                std::int64_t rows) {
  check(numbers.numel() == count, "{}: {} indices for {} rows", op, numbers.numel(), count);
  const Tensor host = ops.to_host(numbers);
  for (const std::int32_t i : host.span<std::int32_t>()) check(0 <= i && i < rows, "{}: row {} of {}", op, i, rows);
  return device_data<std::int32_t>(numbers);
}

}  // namespace

void CudaOps::embed(const Tensor& y, const Tensor& ids, const Tensor& table, float scale) {
  check_rows("embed", y, table);
  const auto* id = row_numbers(*this, "embed", ids, y.rows(), table.rows());
  cuda::embed(device_raw(y), id, device_raw(table), y.dtype(), y.rows(), y.cols(), scale, stream_);
}

void CudaOps::add_rows(const Tensor& x, const Tensor& index, const Tensor& table) {
  check_rows("add_rows", x, table);
  const auto* at = row_numbers(*this, "add_rows", index, x.rows(), table.rows());
  cuda::add_rows(device_raw(x), at, device_raw(table), x.dtype(), x.rows(), x.cols(), stream_);
}

void CudaOps::norm(const Tensor& y, const Tensor& x, const Tensor& w, const Tensor& b, const NormSpec& spec) {
  check_rows("norm", y, x);
  check(y.rows() == x.rows() && w.cols() == x.cols(), "norm: x {}, y {}, gain {}", to_string(x.shape()),
        to_string(y.shape()), to_string(w.shape()));
  check(!b || b.shape() == w.shape(), "norm: bias {} for weight {}", to_string(b.shape()), to_string(w.shape()));
  cuda::norm(device_raw(y), device_raw(x), floats(w), floats(b), x.dtype(), x.rows(), x.cols(), w.rows(), spec,
             stream_);
}

void CudaOps::rope(const Tensor& x, const Tensor& cos, const Tensor& sin, int heads, RopeStyle style) {
  const std::int64_t pairs = cos.cols();
  check(heads > 0 && x.cols() % heads == 0 && 2 * pairs <= x.cols() / heads && cos.rows() == x.rows() &&
            sin.shape() == cos.shape(),
        "rope: x {}, {} heads, cos {}, sin {}", to_string(x.shape()), heads, to_string(cos.shape()),
        to_string(sin.shape()));
  cuda::rope(device_raw(x), floats(cos), floats(sin), x.dtype(), x.rows(), heads, static_cast<int>(x.cols() / heads),
             static_cast<int>(pairs), style, stream_);
}

void CudaOps::activate(const Tensor& y, const Tensor& gate, const Tensor& up, Activation act) {
  check_rows("activate", y, gate);
  check(y.numel() == gate.numel(), "activate: y {}, gate {}", to_string(y.shape()), to_string(gate.shape()));
  check(!up || (up.dtype() == gate.dtype() && up.shape() == gate.shape()), "activate: gate {}, up {}",
        to_string(gate.shape()), to_string(up.shape()));
  cuda::activate(device_raw(y), device_raw(gate), up ? device_raw(up) : nullptr, y.dtype(), y.numel(), act, stream_);
}

void CudaOps::add(const Tensor& x, const Tensor& y) {
  check(x.dtype() == y.dtype() && x.numel() == y.numel(), "add: {} {} and {} {}", name_of(x.dtype()),
        to_string(x.shape()), name_of(y.dtype()), to_string(y.shape()));
  cuda::add(device_raw(x), device_raw(y), x.dtype(), x.numel(), stream_);
}

void CudaOps::gather_rows(const Tensor& y, const Tensor& x, const Tensor& rows) {
  check_rows("gather_rows", y, x);
  const auto* at = row_numbers(*this, "gather_rows", rows, y.rows(), x.rows());
  cuda::gather_rows(device_raw(y), device_raw(x), at, y.rows(),
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

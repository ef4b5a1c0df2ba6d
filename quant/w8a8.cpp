#include "quant/w8a8.h"

#include "quant/rtn.h"

#include <algorithm>

namespace ptq {

namespace {

// absmax of the whole weight, for each of its rows.
Tensor tensor_absmax(Ops& ops, const Tensor& w) {
  const Tensor rows = ops.empty(DType::f32, {w.rows()});
  ops.row_absmax(rows, w);
  Tensor host = ops.to_host(rows);
  const auto values = host.span<float>();
  std::fill(values.begin(), values.end(), *std::max_element(values.begin(), values.end()));
  return ops.to_device(host);
}

}  // namespace

QuantizedMatrix quantize_absmax(Ops& ops, const Tensor& w, int bits, bool per_tensor) {
  // Rows of a weight and tokens of an activation are quantized by the same rule, hence by the same operation.
  const Tensor on_device = ops.to_device(w);
  const Int8Rows rows = ops.quantize_rows(on_device, bits, per_tensor ? tensor_absmax(ops, on_device) : Tensor());
  const std::int64_t n = w.rows(), k = w.cols();
  QuantizedMatrix m;
  m.codes = ops.to_host(rows.codes);
  m.scales = ops.to_host(rows.scales).reshape({n, 1});
  m.zeros = Tensor::zeros(DType::f32, {n, 1});
  m.g_idx = column_groups(k, -1);
  m.q = Tensor::empty(DType::f32, {n, k});
  const std::int8_t* codes = m.codes.data<std::int8_t>();
  const float* scales = m.scales.data<float>();
  float* q = m.q.data<float>();
#pragma omp parallel for schedule(static)
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < k; ++j) q[i * k + j] = static_cast<float>(codes[i * k + j]) * scales[i];
  }
  m.err_rows = squared_error_rows(w, m.q);
  return m;
}

}  // namespace ptq

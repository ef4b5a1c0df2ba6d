#include "quant/rtn.h"

namespace ptq {

Tensor column_groups(std::int64_t columns, std::int64_t group) {
  Tensor index = Tensor::zeros(DType::i32, {columns});
  if (group == -1) return index;
  for (std::int64_t k = 0; k < columns; ++k) index.data<std::int32_t>()[k] = static_cast<std::int32_t>(k / group);
  return index;
}

QuantizedMatrix quantize_rtn(Ops& ops, const Tensor& w, const QuantSpec& spec) {
  const std::int64_t n = w.rows(), k = w.cols(), groups = group_count(k, spec.group);
  QuantizedMatrix m;
  m.g_idx = column_groups(k, spec.group);
  const Tensor q = ops.to_device(w.clone());
  const Tensor codes = ops.empty(DType::u8, {n, k});
  const Tensor scales = ops.empty(DType::f32, {n, groups}), zeros = ops.empty(DType::f32, {n, groups});
  ops.group_grids(scales, zeros, q, spec.grid(), spec.group);
  ops.round_to_grids(q, codes, scales, zeros, ops.to_device(m.g_idx), spec.grid());
  m.q = ops.to_host(q);
  m.codes = ops.to_host(codes);
  m.scales = ops.to_host(scales);
  m.zeros = ops.to_host(zeros);
  m.err_rows = squared_error_rows(w, m.q);
  return m;
}

}  // namespace ptq

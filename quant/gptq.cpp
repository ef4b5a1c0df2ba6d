#include "quant/gptq.h"

#include "quant/rtn.h"

#include <algorithm>
#include <numeric>

namespace ptq {

namespace {

// out[:, j] = in[:, order[j]], and 0 where the column is dead.
Tensor reordered(const Tensor& in, const std::vector<std::int32_t>& order, const std::vector<std::uint8_t>& dead) {
  const std::int64_t n = in.rows(), k = in.cols();
  Tensor out = Tensor::empty(DType::f32, in.shape());
  const float* from = in.data<float>();
  float* to = out.data<float>();
#pragma omp parallel for schedule(static)
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < k; ++j) {
      const auto column = static_cast<std::size_t>(order[static_cast<std::size_t>(j)]);
      to[i * k + j] = dead[column] ? 0.0f : from[i * k + static_cast<std::int64_t>(column)];
    }
  }
  return out;
}

// out[:, order[j]] = in[:, j]
template <class T>
Tensor restored(const Tensor& in, const std::vector<std::int32_t>& order) {
  if (std::is_sorted(order.begin(), order.end())) return in;
  const std::int64_t n = in.rows(), k = in.cols();
  Tensor out = Tensor::empty(in.dtype(), in.shape());
  const T* from = in.data<T>();
  T* to = out.data<T>();
#pragma omp parallel for schedule(static)
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < k; ++j) to[i * k + order[static_cast<std::size_t>(j)]] = from[i * k + j];
  }
  return out;
}

}  // namespace

QuantizedMatrix quantize_gptq(Ops& ops, const Tensor& w, const HessianFactor& factor, const QuantSpec& spec) {
  const std::int64_t n = w.rows(), k = w.cols(), groups = group_count(k, spec.group);
  check(static_cast<std::int64_t>(factor.order.size()) == k, "factor of {} columns for a weight {}",
        factor.order.size(), to_string(w.shape()));
  if (!factor.u) return quantize_rtn(ops, w, spec);

  const std::vector<std::uint8_t> none(factor.dead.size(), 0);
  const auto& deleted = spec.dead == DeadPolicy::zero ? factor.dead : none;
  GroupedCodes out{ops.empty(DType::u8, {n, k}), ops.empty(DType::f32, {n, groups}),
                   ops.empty(DType::f32, {n, groups})};

  // A row grid is taken from W as it came, group grids from W without its dead columns: what the reference does.
  const bool fixed_grids = spec.group == -1 || spec.static_groups;
  if (spec.group == -1) {
    ops.group_grids(out.scales, out.zeros, ops.to_device(w), spec.grid(), -1);
  } else if (spec.static_groups) {
    std::vector<std::int32_t> own_order(factor.order.size());
    std::iota(own_order.begin(), own_order.end(), 0);
    ops.group_grids(out.scales, out.zeros, ops.to_device(reordered(w, own_order, deleted)), spec.grid(), spec.group);
  }

  // Static groups belong to columns, dynamic groups to places in the processing order.
  QuantizedMatrix m;
  m.g_idx = column_groups(k, spec.group);
  Tensor place_group = m.g_idx.clone();
  for (std::int64_t j = 0; j < k; ++j) {
    const std::int32_t column = factor.order[static_cast<std::size_t>(j)];
    const std::int32_t by_column = spec.group == -1 ? 0 : static_cast<std::int32_t>(column / spec.group);
    if (fixed_grids) {
      place_group.data<std::int32_t>()[j] = by_column;
    } else {
      m.g_idx.data<std::int32_t>()[column] = place_group.data<std::int32_t>()[j];
    }
  }

  const Tensor work = ops.to_device(reordered(w, factor.order, deleted));
  const Tensor row_error = ops.empty(DType::f64, {n});
  SweepSpec sweep{spec.grid(), spec.group, spec.block};
  ops.gptq_sweep(work, out, row_error, factor.u, sweep, fixed_grids, ops.to_device(place_group));

  m.q = restored<float>(ops.to_host(work), factor.order);
  m.codes = restored<std::uint8_t>(ops.to_host(out.codes), factor.order);
  m.scales = ops.to_host(out.scales);
  m.zeros = ops.to_host(out.zeros);
  m.err_rows = ops.to_host(row_error);
  if (spec.act_order) m.perm = Tensor::of(factor.order, {k});
  return m;
}

}  // namespace ptq

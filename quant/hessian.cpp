#include "quant/hessian.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <optional>

namespace ptq {

Hessian::Hessian(Ops& ops, std::int64_t width)
    : ops_(ops), width_(width), sum_(ops.to_device(Tensor::zeros(DType::f32, {width, width}))) {}

Hessian Hessian::of_matrix(Ops& ops, Tensor h) {
  check(h.rank() == 2 && h.dim(0) == h.dim(1), "Hessian of shape {}", to_string(h.shape()));
  Hessian result(ops, 0);
  result.width_ = h.dim(0);
  result.sum_ = std::move(h);
  result.finished_ = true;
  return result;
}

void Hessian::add(const Tensor& x, std::int64_t sequences) {
  check(!finished_, "Hessian::add after finish");
  ops_.gram(sum_, x);
  sequences_ += sequences;
  tokens_ += x.rows();
}

Tensor Hessian::finish(HessianNorm norm) {
  if (finished_) return std::move(sum_);
  check(sequences_ > 0, "Hessian of no sequences");
  finished_ = true;
  Tensor h = ops_.to_host(sum_);
  sum_ = {};
  const auto count = static_cast<double>(norm == HessianNorm::per_sequence ? sequences_ : tokens_);
  const auto scale = static_cast<float>(2.0 / count);
  float* values = h.data<float>();
#pragma omp parallel for schedule(static)
  for (std::int64_t i = 0; i < width_; ++i) {
    for (std::int64_t j = i; j < width_; ++j) values[i * width_ + j] *= scale;
  }
  return h;
}

namespace {

// The upper triangle of P H P^T + lambda I as T; h has its upper triangle valid.
template <class T>
Tensor damped(const Tensor& h, const std::vector<std::int32_t>& order, float lambda) {
  const std::int64_t k = h.cols();
  Tensor out = Tensor::zeros(dtype_of<T>::value, {k, k});
  const float* in = h.data<float>();
  T* to = out.data<T>();
#pragma omp parallel for schedule(dynamic, 16)
  for (std::int64_t i = 0; i < k; ++i) {
    const std::int64_t a = order[static_cast<std::size_t>(i)];
    for (std::int64_t j = i; j < k; ++j) {
      const std::int64_t b = order[static_cast<std::size_t>(j)];
      to[i * k + j] = static_cast<T>(in[std::min(a, b) * k + std::max(a, b)]);
    }
    to[i * k + i] = static_cast<T>(static_cast<float>(to[i * k + i]) + lambda);
  }
  return out;
}

// U for one level of damping in one precision, or nothing if the matrix is not positive definite in it.
std::optional<Tensor> try_factor(Ops& ops, const Tensor& h, const std::vector<std::int32_t>& order, float lambda,
                                 bool in_fp64) {
  Tensor work = ops.to_device(in_fp64 ? damped<double>(h, order, lambda) : damped<float>(h, order, lambda));
  if (!ops.factor_inverse(work)) return std::nullopt;
  if (!in_fp64) return work;
  const Tensor wide = ops.to_host(work);
  return ops.to_device(wide.to(DType::f32));
}

}  // namespace

HessianFactor factor_hessian(Ops& ops, Hessian& hessian, const QuantSpec& spec, const std::string& where) {
  const Tensor h = hessian.finish(spec.hessian_norm);
  const std::int64_t k = h.cols();
  float* values = h.data<float>();

  HessianFactor f;
  f.order.resize(static_cast<std::size_t>(k));
  f.dead.resize(static_cast<std::size_t>(k));
  std::iota(f.order.begin(), f.order.end(), 0);
  double trace = 0.0;
  for (std::int64_t i = 0; i < k; ++i) {
    float& diagonal = values[i * k + i];
    require(std::isfinite(diagonal), Exit::numerics,
            "{}: the Hessian's diagonal is {} in column {}; the layer's inputs overflow", where, diagonal, i);
    if (diagonal == 0.0f) {
      f.dead[static_cast<std::size_t>(i)] = 1;
      ++f.dead_columns;
      diagonal = 1.0f;
    }
    trace += static_cast<double>(diagonal);
  }
  if (spec.act_order) {
    std::stable_sort(f.order.begin(), f.order.end(),
                     [&](std::int32_t a, std::int32_t b) { return values[a * k + a] > values[b * k + b]; });
  }

  std::vector<double> levels{spec.damp};
  if (spec.on_singular == SingularPolicy::damp) {
    for (double level : {0.02, 0.05, 0.1, 0.2, 0.5, 1.0}) {
      if (level > spec.damp) levels.push_back(level);
    }
  }
  int attempts = 0;
  for (double level : levels) {
    const auto lambda = static_cast<float>(level * trace / static_cast<double>(k));
    for (bool in_fp64 : {false, true}) {
      ++attempts;
      if (auto u = try_factor(ops, h, f.order, lambda, in_fp64)) {
        f.u = std::move(*u);
        f.damp = level;
        f.damp_added = static_cast<double>(lambda);
        f.retries = attempts - 1;
        f.in_fp64 = in_fp64;
        return f;
      }
    }
  }
  require(
      spec.on_singular == SingularPolicy::rtn, Exit::numerics,
      "{}: the Hessian is not positive definite with damping {} (fp32 and fp64 tried); use more calibration data, a "
      "larger --damp, or --on-singular damp|rtn",
      where, levels.back());
  f.retries = attempts - 1;
  return f;
}

}  // namespace ptq

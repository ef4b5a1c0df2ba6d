#include "quant/matrix.h"

#include "host/checkpoint.h"
#include "quant/gptq.h"
#include "quant/nf4.h"
#include "quant/rtn.h"
#include "quant/scaled_matrix.h"
#include "quant/w8a8.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

namespace ptq {

namespace {

const Shape* shape_of(const Checkpoint& file, const std::string& name) {
  const auto it = file.tensors().find(name);
  return it == file.tensors().end() ? nullptr : &it->second.shape;
}

Tensor read_finite(Ops& ops, const Checkpoint& file, const std::string& name, const std::string& origin) {
  Tensor t = file.read(name, DType::f32);
  require_finite(ops, ops.to_device(t), fmt::format("{}: tensor {}", origin, name));
  return t;
}

// A matrix with one triangle missing would be accepted silently, because only the upper one is used.
void require_symmetric(const Tensor& h, const std::string& origin) {
  const std::int64_t k = h.cols();
  const float* v = h.data<float>();
  for (std::int64_t i = 0; i < k; ++i) {
    for (std::int64_t j = 0; j < i; ++j) {
      const float bound = 1e-3f * std::sqrt(std::fabs(v[i * k + i]) * std::fabs(v[j * k + j]));
      require(std::fabs(v[i * k + j] - v[j * k + i]) <= bound, Exit::data,
              "{}: H is not symmetric: H[{},{}] = {} and H[{},{}] = {}", origin, i, j, v[i * k + j], j, i,
              v[j * k + i]);
    }
  }
}

// X as [T,K].
Tensor read_inputs(Ops& ops, const Checkpoint& file, std::int64_t k, const std::string& origin) {
  const Shape* x = shape_of(file, "X");
  require(x, Exit::data, "{}: no tensor X; this method needs the inputs [sequences, tokens, {}]", origin, k);
  require((x->size() == 2 || x->size() == 3) && x->back() == k && numel(*x) > 0, Exit::data,
          "{}: X has shape {}, expected [sequences, tokens, {}] or [tokens, {}]", origin, to_string(*x), k, k);
  const Tensor inputs = read_finite(ops, file, "X", origin);
  return inputs.reshape({inputs.numel() / k, k});
}

Hessian read_hessian(Ops& ops, const Checkpoint& file, std::int64_t k, const QuantSpec& spec,
                     const std::string& origin) {
  const Shape* h = shape_of(file, "H");
  const Shape* x = shape_of(file, "X");
  require(h || x, Exit::data, "{}: gptq needs the inputs X [S,T,{}] or their Hessian H [{},{}]", origin, k, k, k);
  if (h && spec.hessian_norm == HessianNorm::per_sequence) {
    require(*h == Shape({k, k}), Exit::data, "{}: H has shape {}, expected [{}, {}]", origin, to_string(*h), k, k);
    Tensor matrix = read_finite(ops, file, "H", origin);
    require_symmetric(matrix, origin);
    return Hessian::of_matrix(ops, std::move(matrix));
  }
  require(x, Exit::usage, "--hessian-norm per-token needs the inputs X; {} holds only H", origin);
  const Tensor inputs = read_inputs(ops, file, k, origin);
  const std::int64_t sequences = x->size() == 3 ? (*x)[0] : 1;
  Hessian hessian(ops, k);
  hessian.add(ops.to_device(inputs), sequences);
  return hessian;
}

}  // namespace

MatrixReport quantize_matrix(Ops& ops, const std::filesystem::path& input, const QuantSpec& spec,
                             const std::filesystem::path& output) {
  validate(spec);
  const std::string origin = input.string();
  const auto file = open_safetensors(input);
  const Shape* shape = shape_of(*file, "W");
  require(shape, Exit::data, "{}: no tensor W; the weight matrix [N,K] must be named W", origin);
  require(shape->size() == 2 && (*shape)[0] > 0 && (*shape)[1] > 0, Exit::data,
          "{}: W has shape {}, expected a matrix [N, K]", origin, to_string(*shape));
  const Tensor w = read_finite(ops, *file, "W", origin);

  MatrixReport report;
  report.rows = w.rows();
  report.columns = w.cols();
  QuantizedMatrix m;
  ScaledMatrix scaled;
  switch (spec.method) {
    case Method::rtn:
      m = quantize_rtn(ops, w, spec);
      break;
    case Method::w8a8:
      m = quantize_absmax(ops, w, spec.bits, spec.weight_per_tensor);
      break;
    case Method::nf4:
      m = quantize_nf4(ops, w, spec);
      break;
    case Method::gptq: {
      Hessian hessian = read_hessian(ops, *file, w.cols(), spec, origin);
      report.factor = factor_hessian(ops, hessian, spec, origin);
      m = quantize_gptq(ops, w, report.factor, spec);
      break;
    }
    case Method::awq:
      scaled = quantize_awq_matrix(ops, w, read_inputs(ops, *file, w.cols(), origin), spec);
      report.best_ratio = scaled.search.best_ratio;
      m = scaled.m;
      break;
    case Method::smoothquant:
      scaled = quantize_smooth_matrix(ops, w, read_inputs(ops, *file, w.cols(), origin), spec);
      m = scaled.m;
      break;
  }
  require_finite(ops, ops.to_device(m.q), origin + ": the quantized W");
  const auto rows = m.err_rows.span<double>();
  report.error = std::accumulate(rows.begin(), rows.end(), 0.0);
  report.relative_error = relative_error(w, m.q);

  std::map<std::string, Tensor> tensors{
      {"Q", m.q}, {"codes", m.codes}, {"scales", m.scales}, {"err_rows", m.err_rows.to(DType::f32)}};
  if (m.zeros) tensors["zeros"] = m.zeros;
  if (m.g_idx) tensors["g_idx"] = m.g_idx;
  if (m.perm) tensors["perm"] = m.perm;
  if (!scaled.t.empty()) tensors["t"] = Tensor::of(scaled.t, {std::ssize(scaled.t)});
  if (!scaled.search.loss.empty()) tensors["loss"] = Tensor::of(scaled.search.loss, {std::ssize(scaled.search.loss)});
  std::map<std::string, std::string> metadata{{"format", "pt"},
                                              {"scheme", scheme_name(spec)},
                                              {"parameters", to_json(spec).dump()},
                                              {"error", fmt::format("{}", report.error)},
                                              {"relative_error", fmt::format("{}", report.relative_error)}};
  if (spec.method == Method::gptq) {
    metadata["dead_columns"] = fmt::format("{}", report.factor.dead_columns);
    metadata["damp"] = fmt::format("{}", report.factor.damp);
    metadata["damp_added"] = fmt::format("{}", report.factor.damp_added);
    metadata["retries"] = fmt::format("{}", report.factor.retries);
  }
  if (spec.method == Method::awq) metadata["best_ratio"] = fmt::format("{}", report.best_ratio);
  write_safetensors(output, tensors, metadata);
  return report;
}

}  // namespace ptq

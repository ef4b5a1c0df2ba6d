#include "quant/quantize.h"

#include "quant/gptq.h"
#include "quant/rtn.h"
#include "quant/w8a8.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

namespace ptq {

namespace {

class LinearQuantizer {
 public:
  LinearQuantizer(std::shared_ptr<const ModelFiles> files, Ops& ops, const QuantSpec& spec, const LinearSink& sink)
      : files_(std::move(files)), ops_(ops), spec_(spec), sink_(sink) {}

  // Weights only: RTN, W8A8.
  void without_calibration(const ProgressFn& progress) {
    const int layers = files_->config().layers;
    for (int layer = 0; layer < layers; ++layer) {
      for (LinearRole role : all_linear_roles) {
        if (files_->has_linear(role)) quantize(layer, role, nullptr, {});
      }
      if (progress) progress(fmt::format("layer {}/{}", layer + 1, layers), layer + 1, layers);
    }
  }

  void with_calibration(DType compute, std::span<const Window> windows, const ProgressFn& progress) {
    const Transformer model(files_, ops_, compute);
    Seconds walked, seen;            // by the walk so far; of that, already attributed to a linear
    HessianFactor of_qkv, of_stage;  // a parallel block's MLP comes back to the former
    const auto on_stage = [&](int layer, Stage stage, Hessian* hessian, Block& block) {
      Seconds shared = walked;
      shared.load -= seen.load;
      shared.forward -= seen.forward;
      shared.hessian -= seen.hessian;
      seen = walked;
      HessianFactor& factor = stage == Stage::qkv || !hessian ? of_qkv : of_stage;
      if (hessian) {
        factor = {};
        factor = timed(ops_, shared.factor, [&] {
          const std::string where =
              fmt::format("layer {}, input of {} ({})", layer, name_of(stage), modules(layer, stage));
          return factor_hessian(ops_, *hessian, spec_, where);
        });
      }
      for (LinearRole role : roles_of(stage, model.config())) {
        const Tensor q = quantize(layer, role, &factor, std::exchange(shared, {}));
        LinearHealth& health = report_.linears.back();
        block[role] = timed(ops_, health.seconds.load, [&] { return model.make_linear(q, layer, role); });
      }
    };
    calibration_walk(model, windows, {.true_sequential = spec_.true_sequential}, on_stage, walked, progress);
    // What the walk did after the last stage belongs to no linear.
    report_.seconds.load = walked.load - seen.load;
    report_.seconds.forward = walked.forward - seen.forward;
    report_.seconds.hessian = walked.hessian - seen.hessian;
  }

  QuantizeReport finish() {
    for (const LinearHealth& l : report_.linears) report_.seconds += l.seconds;
    return std::move(report_);
  }

 private:
  std::string modules(int layer, Stage stage) const {
    std::vector<std::string> names;
    for (LinearRole role : roles_of(stage, files_->config())) names.push_back(files_->linear_ref(layer, role).module);
    return fmt::format("{}", fmt::join(names, ", "));
  }

  // Returns the dequantized weight.
  Tensor quantize(int layer, LinearRole role, const HessianFactor* factor, const Seconds& shared) {
    LinearHealth health;
    health.layer = layer;
    health.role = role;
    health.module = files_->linear_ref(layer, role).module;
    health.seconds = shared;
    const Tensor w = timed(ops_, health.seconds.load, [&] {
      Tensor weight = files_->linear_weight(layer, role, DType::f32);
      require_finite(ops_, ops_.to_device(weight), health.module + ".weight");
      return weight;
    });
    const QuantizedMatrix m = timed(ops_, health.seconds.sweep, [&] {
      switch (spec_.method) {
        case Method::rtn:
          return quantize_rtn(ops_, w, spec_);
        case Method::w8a8:
          return quantize_w8a8(ops_, w);
        case Method::gptq:
          return quantize_gptq(ops_, w, *factor, spec_);
      }
      fail(Exit::internal, "unknown method");
    });
    require_finite(ops_, ops_.to_device(m.q), health.module + ": quantized weight");
    const auto rows = m.err_rows.span<double>();
    health.error = std::accumulate(rows.begin(), rows.end(), 0.0);
    health.relative_error = relative_error(w, m.q);
    if (factor) {
      health.damp = factor->damp;
      health.dead_columns = factor->dead_columns;
      health.retries = factor->retries;
      health.in_fp64 = factor->in_fp64;
      health.fell_back = !factor->u;
    }
    timed(ops_, health.seconds.write, [&] { sink_(layer, role, m); });
    report_.linears.push_back(std::move(health));
    return m.q;
  }

  std::shared_ptr<const ModelFiles> files_;
  Ops& ops_;
  const QuantSpec& spec_;
  const LinearSink& sink_;
  QuantizeReport report_;
};

}  // namespace

double QuantizeReport::error() const {
  return std::accumulate(linears.begin(), linears.end(), 0.0,
                         [](double sum, const LinearHealth& l) { return sum + l.error; });
}

std::int64_t QuantizeReport::dead_columns() const {
  return std::accumulate(linears.begin(), linears.end(), std::int64_t{0},
                         [](std::int64_t sum, const LinearHealth& l) { return sum + l.dead_columns; });
}

std::int64_t QuantizeReport::retried() const {
  return std::count_if(linears.begin(), linears.end(), [](const LinearHealth& l) { return l.retries > 0; });
}

std::int64_t QuantizeReport::fell_back() const {
  return std::count_if(linears.begin(), linears.end(), [](const LinearHealth& l) { return l.fell_back; });
}

nlohmann::json to_json(const Seconds& s) {
  return {{"load", s.load},     {"forward", s.forward}, {"hessian", s.hessian},
          {"factor", s.factor}, {"sweep", s.sweep},     {"write", s.write}};
}

nlohmann::json to_json(const LinearHealth& l) {
  return {{"module", l.module},   {"error", l.error},         {"relative_error", l.relative_error},
          {"damp", l.damp},       {"retries", l.retries},     {"dead_columns", l.dead_columns},
          {"in_fp64", l.in_fp64}, {"fell_back", l.fell_back}, {"seconds", to_json(l.seconds)}};
}

nlohmann::json to_json(const QuantizeReport& report) {
  nlohmann::json linears = nlohmann::json::array();
  for (const LinearHealth& l : report.linears) linears.push_back(to_json(l));
  return {{"summary",
           {{"linears", report.linears.size()},
            {"error", report.error()},
            {"dead_columns", report.dead_columns()},
            {"retried", report.retried()},
            {"fell_back", report.fell_back()}}},
          {"seconds", to_json(report.seconds)},
          {"linears", std::move(linears)}};
}

QuantizeReport quantize_linears(std::shared_ptr<const ModelFiles> files, Ops& ops, const QuantSpec& spec, DType compute,
                                std::span<const Window> windows, const LinearSink& sink, const ProgressFn& progress) {
  validate(spec);
  LinearQuantizer quantizer(std::move(files), ops, spec, sink);
  if (needs_calibration(spec.method)) {
    quantizer.with_calibration(compute, windows, progress);
  } else {
    quantizer.without_calibration(progress);
  }
  return quantizer.finish();
}

}  // namespace ptq

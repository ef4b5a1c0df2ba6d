#include "quant/quantize.h"

#include "host/range.h"
#include "model/weight_names.h"
#include "quant/activation_ranges.h"
#include "quant/awq.h"
#include "quant/gptq.h"
#include "quant/layer_checkpoint.h"
#include "quant/nf4.h"
#include "quant/report.h"
#include "quant/rtn.h"
#include "quant/smoothquant.h"
#include "quant/w8a8.h"

#include <utility>

namespace ptq {

namespace {

// The methods that take weights as they are stored: all but AWQ and SmoothQuant.
class LinearQuantizer {
 public:
  LinearQuantizer(const ModelFiles& files, Ops& ops, const QuantSpec& spec, const QuantSink& sink,
                  QuantizeReport& report)
      : files_(files), ops_(ops), spec_(spec), sink_(sink), report_(report) {}

  void weights_only(const ProgressFn& progress, const WalkPart& part) {
    const int layers = files_.config().layers;
    for (int layer = part.first; layer < layers; ++layer) {
      const Range range(ops_, "block {}", layer);
      for (LinearRole role : all_linear_roles) {
        if (files_.has_linear(role)) quantize(layer, role, nullptr, {});
      }
      if (progress) progress(fmt::format("layer {}/{}", layer + 1, layers), layer + 1, layers);
      if (part.after && layer + 1 < layers) part.after(layer + 1, {});
    }
  }

  void gptq(const Transformer& model, std::span<const Window> windows, const ProgressFn& progress,
            const WalkPart& part) {
    Seconds walked, seen;            // by the walk so far; of that, already attributed to a linear
    HessianFactor of_qkv, of_stage;  // a parallel block's MLP comes back to the former
    const auto on_stage = [&](int layer, Stage stage, Hessian* hessian, Block& block) {
      const Range range(ops_, "{}", name_of(stage));
      Seconds shared = walked;
      shared.load -= seen.load;
      shared.forward -= seen.forward;
      shared.hessian -= seen.hessian;
      seen = walked;
      HessianFactor& factor = stage == Stage::qkv || !hessian ? of_qkv : of_stage;
      if (hessian) {
        factor = {};
        factor = timed(ops_, shared.factor, [&] {
          const Range step(ops_, "factor");
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
    calibration_walk(model, windows, {.true_sequential = spec_.true_sequential}, on_stage, walked, progress, part);
    // What the walk did after the last stage belongs to no linear.
    report_.seconds.load += walked.load - seen.load;
    report_.seconds.forward += walked.forward - seen.forward;
    report_.seconds.hessian += walked.hessian - seen.hessian;
  }

 private:
  std::string modules(int layer, Stage stage) const {
    std::vector<std::string> names;
    for (LinearRole role : roles_of(stage, files_.config())) names.push_back(files_.linear_ref(layer, role).module);
    return fmt::format("{}", fmt::join(names, ", "));
  }

  QuantizedMatrix round(const Tensor& w, const HessianFactor* factor) const {
    switch (spec_.method) {
      case Method::rtn:
        return quantize_rtn(ops_, w, spec_);
      case Method::w8a8:
        return quantize_absmax(ops_, w, spec_.bits, spec_.weight_per_tensor);
      case Method::nf4:
        return quantize_nf4(ops_, w, spec_);
      case Method::gptq:
        return quantize_gptq(ops_, w, *factor, spec_);
      case Method::awq:
      case Method::smoothquant:
        break;
    }
    fail(Exit::internal, "{} does not take weights as they are stored", name_of(spec_.method));
  }

  // Returns the dequantized weight.
  Tensor quantize(int layer, LinearRole role, const HessianFactor* factor, Seconds seconds) {
    const Range linear(ops_, "{}", files_.linear_ref(layer, role).module);
    const Tensor w = timed(ops_, seconds.load, [&] {
      Tensor weight = files_.linear_weight(layer, role, DType::f32);
      require_finite(ops_, ops_.to_device(weight), files_.linear_ref(layer, role).module + ".weight");
      return weight;
    });
    const QuantizedMatrix m = timed(ops_, seconds.sweep, [&] {
      const Range step(ops_, factor ? "sweep" : "round");
      return round(w, factor);
    });
    LinearHealth& health = deliver(ops_, files_, layer, role, w, m, sink_, report_);
    health.seconds += seconds;
    if (factor) {
      health.damp = factor->damp;
      health.dead_columns = factor->dead_columns;
      health.retries = factor->retries;
      health.in_fp64 = factor->in_fp64;
      health.fell_back = !factor->u;
    }
    return m.q;
  }

  const ModelFiles& files_;
  Ops& ops_;
  const QuantSpec& spec_;
  const QuantSink& sink_;
  QuantizeReport& report_;
};

double mean_bits_per_weight(const ModelFiles& files, const QuantSpec& spec) {
  double bits = 0.0, weights = 0.0;  // of one block: all have the same shapes
  for (LinearRole role : all_linear_roles) {
    if (!files.has_linear(role)) continue;
    const Shape shape = linear_shape(files.config(), role);
    const auto count = static_cast<double>(numel(shape));
    bits += count * bits_per_weight(spec, shape[1]);
    weights += count;
  }
  return bits / weights;
}

// What the model has to know to run as it was quantized, but for calibrated ranges.
ActivationQuant activations_of(const QuantSpec& spec) {
  ActivationQuant activations = spec.activations;
  if (spec.absmax_weights() && activations.kind == ActivationKind::integer) {
    activations.weight_bits = spec.bits;
    activations.weight_per_tensor = spec.weight_per_tensor;
  }
  return activations;
}

void calibrated(const std::shared_ptr<const ModelFiles>& files, Ops& ops, const QuantSpec& spec, DType compute,
                std::span<const Window> windows, const QuantSink& sink, QuantizeReport& report,
                const ProgressFn& progress, ModelRanges& ranges, const WalkPart& part) {
  Transformer model(files, ops, compute);
  model.set_activations({});  // calibration sees full precision, also of a model that asks for less
  const bool fixed = spec.activations.range == ActivationRange::fixed;
  if (spec.method == Method::smoothquant) require_smoothable(files->config());
  if ((spec.method == Method::smoothquant || fixed) && !ranges.serves(fixed && spec.activations.bmm)) {
    ranges = measure_all_ranges(model, windows, fixed && spec.activations.bmm, report.seconds, progress);
  }
  if (spec.method == Method::smoothquant) {
    // Fixed ranges follow from the smoothing of every layer.
    return quantize_smoothquant(*files, ops, spec, ranges, sink, report, progress, fixed ? WalkPart() : part);
  }
  if (fixed) {
    for (const BlockRanges& block : ranges.blocks) report.activations.fixed.push_back(fixed_ranges(block));
  }
  if (spec.method == Method::awq) {
    // A walk that begins later has not seen the first layers.
    quantize_awq(model, spec, windows, sink, report, progress, part, part.first == 0 ? &ranges : nullptr);
    return;
  }
  LinearQuantizer quantizer(*files, ops, spec, sink, report);
  if (spec.method == Method::gptq) {
    quantizer.gptq(model, windows, progress, part);
  } else {
    quantizer.weights_only(progress, part);
  }
}

}  // namespace

QuantizeReport quantize_linears(std::shared_ptr<const ModelFiles> files, Ops& ops, const QuantSpec& spec, DType compute,
                                std::span<const Window> windows, const QuantSink& sink, const ProgressFn& progress,
                                const QuantizeContext& context) {
  validate(spec);
  QuantizeReport report;
  report.activations = activations_of(spec);
  std::optional<LayerState> state;
  WalkPart part;
  if (context.layers) {
    state = context.layers->restore();
    if (state) {
      report.linears = std::move(state->report.linears);
      report.awq = std::move(state->report.awq);
      part.first = state->layers;
      part.h = state->h;
    }
    part.after = [&](int done, std::span<const Stream> streams) { context.layers->save(done, streams, ops, report); };
  }
  ModelRanges own;
  if (needs_calibration(spec)) {
    calibrated(files, ops, spec, compute, windows, sink, report, progress, context.ranges ? *context.ranges : own,
               part);
  } else {
    LinearQuantizer(*files, ops, spec, sink, report).weights_only(progress, part);
  }
  report.bits_per_weight = mean_bits_per_weight(*files, spec);
  for (const LinearHealth& l : report.linears) report.seconds += l.seconds;
  return report;
}

}  // namespace ptq

// Quantizes every linear of a model's blocks, one after another in the order of a forward pass, and hands each result
// to a sink. Embeddings, norms, biases and the head stay as they are (spec A.7).
#pragma once

#include "model/block_weights.h"
#include "quant/quantized_matrix.h"
#include "quant/scheme.h"
#include "quant/walk.h"

#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace ptq {

// What happened to one linear. Seconds that its stage spent for all of its linears (forward, Hessian, factor) stand at
// the stage's first linear, so that sums over linears are totals.
struct LinearHealth {
  std::string module;  // Hugging Face module path
  int layer = 0;
  LinearRole role = LinearRole::q;
  double error = 0.0;           // sum of err_rows (see QuantizedMatrix)
  double relative_error = 0.0;  // ||Q - W||^2 / ||W||^2
  double damp = 0.0;            // relative damping that was used (GPTQ)
  std::int64_t dead_columns = 0;
  int retries = 0;         // factorisations beyond the first
  bool in_fp64 = false;    // factored in fp64 because fp32 failed
  bool fell_back = false;  // rounded to nearest because the Hessian could not be factored
  Seconds seconds;
};

// One AWQ search: the linears that shared a scale.
struct AwqSearch {
  std::string prev;                 // module that took 1/t
  std::vector<std::string> layers;  // modules scaled by t
  double best_ratio = 0.0;
  std::vector<double> loss;       // one per grid point, ratio 0, 0.05 .. 0.95
  std::int64_t dead_columns = 0;  // input channels whose mean magnitude is exactly 0
};

struct QuantizeReport {
  std::vector<LinearHealth> linears;  // in the order in which they were quantized
  std::vector<AwqSearch> awq;
  ActivationQuant activations;  // as the checkpoint needs it: with calibrated ranges if they are fixed
  std::optional<double> alpha;  // smoothquant: the one that was used
  double bits_per_weight = 0;   // of all linears, scales and zeros included
  Seconds seconds;              // sum over linears, and what belongs to none

  double error() const;
  std::int64_t dead_columns() const;
  std::int64_t retried() const;    // linears that needed fp64 or more damping
  std::int64_t fell_back() const;  // linears rounded to nearest instead
};

nlohmann::json to_json(const Seconds& seconds);
nlohmann::json to_json(const LinearHealth& health);
nlohmann::json to_json(const AwqSearch& search);
nlohmann::json to_json(const QuantizeReport& report);

// Where results go, as soon as they exist.
struct QuantSink {
  std::function<void(int layer, LinearRole role, const QuantizedMatrix& matrix)> linear;
  // Norms and biases of a block into which scales were folded (AWQ, SmoothQuant), after its linears; its weights are
  // empty. Methods that fold nothing do not call it.
  std::function<void(int layer, const BlockWeights& block)> folded;
};

class LayerCheckpoint;
struct ModelRanges;

// What methods may share or keep beside their results; both optional.
struct QuantizeContext {
  // Full-precision ranges of the same model, compute type and windows: taken if they are there, else left here by
  // methods that measure them.
  ModelRanges* ranges = nullptr;
  LayerCheckpoint* layers = nullptr;
};

// Static activation ranges, AWQ, SmoothQuant and GPTQ need `windows`; the other methods read weights only. GPTQ runs
// `windows` through the model in the `compute` dtype (weights are quantized from their stored precision). Exit 2 wrong
// parameters, 65 bad windows, 76 singular Hessian or non-finite values, each naming layer and linear.
QuantizeReport quantize_linears(std::shared_ptr<const ModelFiles> files, Ops& ops, const QuantSpec& spec, DType compute,
                                std::span<const Window> windows, const QuantSink& sink, const ProgressFn& progress = {},
                                const QuantizeContext& context = {});

}  // namespace ptq

// Quantizes every linear of a model's blocks, one after another in the order of a forward pass, and hands each result
// to a sink. Embeddings, norms, biases and the head stay as they are (spec A.7).
#pragma once

#include "quant/quantized_matrix.h"
#include "quant/scheme.h"
#include "quant/walk.h"

#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
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

struct QuantizeReport {
  std::vector<LinearHealth> linears;  // in the order in which they were quantized
  Seconds seconds;                    // sum over linears, and what belongs to none

  double error() const;
  std::int64_t dead_columns() const;
  std::int64_t retried() const;    // linears that needed fp64 or more damping
  std::int64_t fell_back() const;  // linears rounded to nearest instead
};

nlohmann::json to_json(const Seconds& seconds);
nlohmann::json to_json(const LinearHealth& health);
nlohmann::json to_json(const QuantizeReport& report);

using LinearSink = std::function<void(int layer, LinearRole role, const QuantizedMatrix& matrix)>;

// RTN and W8A8 read weights only; GPTQ runs `windows` through the model in the `compute` dtype (weights are quantized
// from their stored precision). Exit 2 wrong parameters, 65 bad windows, 76 singular Hessian or non-finite values, each
// naming layer and linear.
QuantizeReport quantize_linears(std::shared_ptr<const ModelFiles> files, Ops& ops, const QuantSpec& spec, DType compute,
                                std::span<const Window> windows, const LinearSink& sink,
                                const ProgressFn& progress = {});

}  // namespace ptq

// What happened to every linear of a quantized model, compactly: a list per quantity, in the order of "module".
#pragma once

#include "quant/quantize.h"

#include <nlohmann/json_fwd.hpp>

namespace ptq {

// {"summary": {"linears", "error", "bits_per_weight", "dead_columns", "retried", "fell_back", "nonfinite"}, "linears":
// {"module", "error", "relative_error", "damp", "dead_columns", "retries", "in_fp64", "fell_back"}, "awq": {"prev",
// "best_ratio", "dead_columns"}, "alpha"}. "nonfinite" is 0: a cell with a value that is not finite fails.
nlohmann::json health_json(const QuantizeReport& report);

}  // namespace ptq

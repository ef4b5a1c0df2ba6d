// The options of a quantizer, shared by `ptq quantize` and `ptq matrix`.
#pragma once

#include "cli/options.h"
#include "quant/scheme.h"

#include <optional>

namespace ptq {

// Options that were not given keep the method's default (quant/scheme.h).
struct QuantOptions {
  std::string method;
  std::optional<std::string> scheme;
  std::optional<int> bits;
  std::optional<std::int64_t> group;
  bool symmetric = false, asymmetric = false;
  bool mse = false, act_order = false, static_groups = false, double_quant = false;
  bool true_sequential = QuantSpec{}.true_sequential;
  bool clip = QuantSpec{}.clip;
  std::optional<double> damp, alpha;
  std::optional<std::string> dead, hessian_norm, on_singular, awq_scaling;

  QuantSpec spec() const;  // validated; exit 2 names the option at fault
};

void add_quant_options(CLI::App& command, QuantOptions& o);

}  // namespace ptq

#include "cli/quant_options.h"

namespace ptq {

void add_quant_options(CLI::App& command, QuantOptions& o) {
  const QuantSpec d;
  command.add_option("--method", o.method, "rtn, gptq or w8a8")->required();
  command.add_option("--bits", o.bits, fmt::format("bits of a weight, 2 to 8 [{}]", d.bits));
  command.add_option("--group", o.group, fmt::format("columns that share a scale; -1: a whole row [{}]", d.group));
  auto* sym = command.add_flag("--sym", o.symmetric, "symmetric grid, zero point in the middle [default]");
  command.add_flag("--asym", o.asymmetric, "asymmetric grid with a zero point per group")->excludes(sym);
  command.add_flag("--mse", o.mse, "search the range of each grid that minimises sum |q - w|^2.4");
  command.add_flag("--act-order", o.act_order, "gptq: columns in descending order of the Hessian's diagonal");
  command.add_flag("--static-groups", o.static_groups, "gptq: group grids from the original weights");
  command.add_flag("--true-sequential,!--no-true-sequential", o.true_sequential,
                   "gptq: each stage of a block sees the quantized stages before it [default]");
  command.add_option("--damp", o.damp, fmt::format("gptq: damping, of the mean diagonal [{}]", d.damp));
  command.add_option("--dead", o.dead, "gptq: weights that calibration never exercised: zero (reference) or rtn");
  command.add_option("--hessian-norm", o.hessian_norm, "gptq: per-sequence (reference) or per-token");
  command.add_option("--on-singular", o.on_singular, "gptq: a Hessian that cannot be factored: error, damp or rtn");
}

QuantSpec QuantOptions::spec() const {
  QuantSpec s = defaults_of(parse_method(method));
  if (bits) s.bits = *bits;
  if (group) s.group = *group;
  if (asymmetric) s.symmetric = false;
  s.mse = mse;
  s.act_order = act_order;
  s.static_groups = static_groups;
  s.true_sequential = true_sequential;
  if (damp) s.damp = *damp;
  if (dead) s.dead = parse_dead(*dead);
  if (hessian_norm) s.hessian_norm = parse_hessian_norm(*hessian_norm);
  if (on_singular) s.on_singular = parse_on_singular(*on_singular);
  validate(s);
  return s;
}

}  // namespace ptq

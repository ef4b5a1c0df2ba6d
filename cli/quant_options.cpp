#include "cli/quant_options.h"

namespace ptq {

void add_quant_options(CLI::App& command, QuantOptions& o) {
  const QuantSpec d;
  command.add_option("--method", o.method, "rtn, gptq, awq, smoothquant, w8a8 or nf4")->required();
  auto* scheme = command.add_option(
      "--scheme", o.scheme,
      "all numbers of the result as one word: w4a16-g128-sym, w4a8-g128-asym (activations int8 per token), w8a8, "
      "w8a8-wtensor-atensor, w8a8-astatic, w8a8-bmm, w8a8-outliers6 (LLM.int8()), wnf4a16-b64-dq, wnf4anf4-b64");
  const auto part = [&](CLI::Option* option) { option->excludes(scheme); };
  part(
      command.add_option("--bits", o.bits, fmt::format("bits of a weight, 2 to 8 [{}; w8a8, smoothquant: 8]", d.bits)));
  part(command.add_option(
      "--group", o.group,
      fmt::format("columns that share a scale; -1: a whole row; nf4: elements of a block [{}; nf4: 64]", d.group)));
  auto* sym = command.add_flag("--sym", o.symmetric, "symmetric grid, zero point in the middle [default; not awq]");
  part(sym);
  auto* asym = command.add_flag("--asym", o.asymmetric, "asymmetric grid with a zero point per group [default of awq]");
  part(asym->excludes(sym));
  command.add_flag("--mse", o.mse, "rtn, gptq: search the range of each grid that minimises sum |q - w|^2.4");
  command.add_flag("--act-order", o.act_order, "gptq: columns in descending order of the Hessian's diagonal");
  command.add_flag("--static-groups", o.static_groups, "gptq: group grids from the original weights");
  command.add_flag("--true-sequential,!--no-true-sequential", o.true_sequential,
                   "gptq: each stage of a block sees the quantized stages before it [default]");
  command.add_option("--damp", o.damp, fmt::format("gptq: damping, of the mean diagonal [{}]", d.damp));
  command.add_option("--dead", o.dead, "gptq, awq: weights that calibration never exercised: zero (reference) or rtn");
  command.add_option("--hessian-norm", o.hessian_norm, "gptq: per-sequence (reference) or per-token");
  command.add_option("--on-singular", o.on_singular, "gptq: a Hessian that cannot be factored: error, damp or rtn");
  command.add_option("--awq-scaling", o.awq_scaling, "awq: llm-awq (activations alone) or duo (AutoAWQ) [llm-awq]");
  command.add_flag("--clip,!--no-clip", o.clip, "awq: search clipping ranges [default]");
  command.add_option("--alpha", o.alpha,
                     "smoothquant: how much moves into the weights, 0 to 1 [opt 0.5, llama 0.85, others 0.8]");
  command.add_flag("--double-quant", o.double_quant, "nf4: quantize the blocks' scales too");
}

QuantSpec QuantOptions::spec() const {
  QuantSpec s = defaults_of(parse_method(method));
  if (scheme) apply_scheme(s, *scheme);
  if (bits) s.bits = *bits;
  if (group) s.group = *group;
  if (symmetric) s.symmetric = true;
  if (asymmetric) s.symmetric = false;
  s.mse |= mse;
  s.act_order |= act_order;
  s.static_groups |= static_groups;
  s.double_quant |= double_quant;
  s.true_sequential = true_sequential;
  s.clip = clip;
  if (damp) s.damp = *damp;
  if (alpha) s.alpha = *alpha;
  if (dead) s.dead = parse_dead(*dead);
  if (hessian_norm) s.hessian_norm = parse_hessian_norm(*hessian_norm);
  if (on_singular) s.on_singular = parse_on_singular(*on_singular);
  if (awq_scaling) s.awq_scaling = parse_awq_scaling(*awq_scaling);
  validate(s);
  return s;
}

}  // namespace ptq

#include "quant/scheme.h"

#include "host/error.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <span>
#include <utility>
#include <vector>

namespace ptq {

namespace {

template <class Enum>
using Name = std::pair<Enum, std::string_view>;

constexpr std::array<Name<Method>, 6> methods{{{Method::rtn, "rtn"},
                                               {Method::gptq, "gptq"},
                                               {Method::awq, "awq"},
                                               {Method::smoothquant, "smoothquant"},
                                               {Method::w8a8, "w8a8"},
                                               {Method::nf4, "nf4"}}};
constexpr std::array<Name<DeadPolicy>, 2> dead_policies{{{DeadPolicy::zero, "zero"}, {DeadPolicy::rtn, "rtn"}}};
constexpr std::array<Name<HessianNorm>, 2> norms{
    {{HessianNorm::per_sequence, "per-sequence"}, {HessianNorm::per_token, "per-token"}}};
constexpr std::array<Name<SingularPolicy>, 3> singular_policies{
    {{SingularPolicy::error, "error"}, {SingularPolicy::damp, "damp"}, {SingularPolicy::rtn, "rtn"}}};
constexpr std::array<Name<AwqScaling>, 2> awq_scalings{{{AwqScaling::activation, "llm-awq"}, {AwqScaling::duo, "duo"}}};

template <class Enum>
Enum parse(std::span<const Name<Enum>> names, std::string_view option, std::string_view text) {
  std::vector<std::string_view> known;
  for (const auto& [value, name] : names) {
    if (name == text) return value;
    known.push_back(name);
  }
  fail(Exit::usage, "{} '{}' is not known; one of: {}", option, text, fmt::join(known, ", "));
}

template <class Enum>
std::string_view spelling(std::span<const Name<Enum>> names, Enum value) {
  for (const auto& [known, name] : names) {
    if (known == value) return name;
  }
  return "?";
}

void validate_weights(const QuantSpec& spec) {
  const bool nf4 = spec.method == Method::nf4;
  if (nf4) {
    require(spec.bits == 4, Exit::usage, "--bits {} does not apply to nf4: its code book has 4 bits", spec.bits);
    require(spec.group >= 2 && spec.group <= 65536, Exit::usage,
            "--group {} is out of range; nf4 blocks hold 2 to 65536 elements", spec.group);
  }
  if (spec.absmax_weights()) {
    require(spec.group == -1, Exit::usage,
            "--group does not apply to {}: one scale per output channel (or -wtensor); for groups use --method rtn",
            name_of(spec.method));
  }
  if (nf4 || spec.absmax_weights()) {
    require(spec.symmetric, Exit::usage, "--asym does not apply to {}: it has no zero points", name_of(spec.method));
  }
  require(!spec.weight_per_tensor || spec.absmax_weights(), Exit::usage,
          "a scale per tensor (-wtensor) does not apply to {}; use --method w8a8 or smoothquant", name_of(spec.method));
}

void validate_activations(const QuantSpec& spec) {
  const ActivationQuant& a = spec.activations;
  const bool integer = a.kind == ActivationKind::integer;
  require(!integer || (a.bits >= 2 && a.bits <= 8), Exit::usage, "activations of {} bits are out of range; 2 to 8",
          a.bits);
  require(integer || (a.range == ActivationRange::token && !a.bmm && a.outlier_threshold == 0.0f), Exit::usage,
          "-atensor, -astatic, -bmm and -outliers need integer activations, such as w8a8");
  require(spec.method != Method::awq || a.range != ActivationRange::fixed, Exit::usage,
          "-astatic does not apply to awq: its scales change the calibrated ranges; use per-token activations");
  if (a.outlier_threshold != 0.0f) {
    require(a.range == ActivationRange::token, Exit::usage,
            "-outliers needs a range per token, not -atensor or -astatic");
    require(a.outlier_threshold >= 0.01f && a.outlier_threshold <= 10000.0f, Exit::usage,
            "-outliers{} is out of range; 0.01 to 10000 (LLM.int8(): 6)", a.outlier_threshold);
  }
}

// Options that were changed from their default must apply to the method.
void validate_options(const QuantSpec& spec) {
  const QuantSpec d;
  const auto only = [&](bool changed, std::string_view option, std::initializer_list<Method> takers) {
    if (!changed || std::find(takers.begin(), takers.end(), spec.method) != takers.end()) return;
    std::vector<std::string_view> names;
    for (Method m : takers) names.push_back(name_of(m));
    fail(Exit::usage, "{} does not apply to {}; use --method {}", option, name_of(spec.method),
         fmt::join(names, " or "));
  };
  only(spec.mse, "--mse", {Method::rtn, Method::gptq});
  only(spec.act_order, "--act-order", {Method::gptq});
  only(spec.static_groups, "--static-groups", {Method::gptq});
  only(spec.true_sequential != d.true_sequential, "--no-true-sequential", {Method::gptq});
  only(spec.damp != d.damp, "--damp", {Method::gptq});
  only(spec.dead != d.dead, "--dead", {Method::gptq, Method::awq});
  only(spec.hessian_norm != d.hessian_norm, "--hessian-norm", {Method::gptq});
  only(spec.on_singular != d.on_singular, "--on-singular", {Method::gptq});
  only(spec.awq_scaling != d.awq_scaling, "--awq-scaling", {Method::awq});
  only(!spec.clip, "--no-clip", {Method::awq});
  only(spec.alpha.has_value(), "--alpha", {Method::smoothquant});
  only(spec.double_quant, "--double-quant", {Method::nf4});
}

}  // namespace

Method parse_method(std::string_view text) { return parse<Method>(methods, "--method", text); }
DeadPolicy parse_dead(std::string_view text) { return parse<DeadPolicy>(dead_policies, "--dead", text); }
HessianNorm parse_hessian_norm(std::string_view text) { return parse<HessianNorm>(norms, "--hessian-norm", text); }
SingularPolicy parse_on_singular(std::string_view text) {
  return parse<SingularPolicy>(singular_policies, "--on-singular", text);
}
AwqScaling parse_awq_scaling(std::string_view text) { return parse<AwqScaling>(awq_scalings, "--awq-scaling", text); }
std::string_view name_of(Method value) { return spelling<Method>(methods, value); }
std::string_view name_of(DeadPolicy value) { return spelling<DeadPolicy>(dead_policies, value); }
std::string_view name_of(HessianNorm value) { return spelling<HessianNorm>(norms, value); }
std::string_view name_of(SingularPolicy value) { return spelling<SingularPolicy>(singular_policies, value); }
std::string_view name_of(AwqScaling value) { return spelling<AwqScaling>(awq_scalings, value); }

QuantSpec defaults_of(Method method) {
  QuantSpec spec;
  spec.method = method;
  if (method == Method::awq) spec.symmetric = false;
  if (method == Method::nf4) spec.group = 64;
  if (spec.absmax_weights()) {
    spec.bits = 8;
    spec.group = -1;
    spec.activations.kind = ActivationKind::integer;
  }
  return spec;
}

double default_alpha(std::string_view family) {
  if (family == "opt") return 0.5;
  if (family == "llama") return 0.85;
  return 0.8;  // Mistral by the reference; Cohere and the others by the examples of later toolkits
}

bool needs_calibration(const QuantSpec& spec) {
  return spec.method == Method::gptq || spec.method == Method::awq || spec.method == Method::smoothquant ||
         spec.activations.range == ActivationRange::fixed;
}

void validate(const QuantSpec& spec) {
  require(spec.bits >= 2 && spec.bits <= 8, Exit::usage, "--bits {} is out of range; 2 to 8", spec.bits);
  require(spec.group == -1 || spec.group >= 1, Exit::usage, "--group {} is out of range; -1 (whole row) or at least 1",
          spec.group);
  require(std::isfinite(spec.damp) && spec.damp >= 0.0 && spec.damp <= 1.0, Exit::usage,
          "--damp {} is out of range; 0 to 1, as a fraction of the mean diagonal of the Hessian", spec.damp);
  require(!spec.alpha || (*spec.alpha >= 0.0 && *spec.alpha <= 1.0), Exit::usage,
          "--alpha {} is out of range; 0 (all difficulty stays in the activations) to 1 (all moves into the weights)",
          spec.alpha.value_or(0.0));
  check(spec.block >= 1, "block of {} columns", spec.block);
  validate_weights(spec);
  validate_activations(spec);
  validate_options(spec);
}

double bits_per_weight(const QuantSpec& spec, std::int64_t columns) {
  check(columns > 0, "a weight of {} columns", columns);
  const auto width = static_cast<double>(columns), bits = static_cast<double>(spec.bits);
  if (spec.method == Method::nf4) {
    const auto block = static_cast<double>(spec.group);
    return bits + (spec.double_quant ? (8.0 + 32.0 / 256.0) / block : 32.0 / block);
  }
  if (spec.weight_per_tensor) return bits;
  const std::int64_t groups = spec.group == -1 ? 1 : (columns + spec.group - 1) / spec.group;
  const double a_group = 16.0 + (spec.symmetric ? 0.0 : bits);
  return bits + a_group * static_cast<double>(groups) / width;
}

nlohmann::json to_json(const QuantSpec& spec) {
  nlohmann::json j{
      {"method", name_of(spec.method)}, {"bits", spec.bits}, {"group", spec.group}, {"symmetric", spec.symmetric}};
  if (spec.absmax_weights()) j["weight_per_tensor"] = spec.weight_per_tensor;
  if (spec.method == Method::smoothquant && spec.alpha) j["alpha"] = *spec.alpha;
  if (spec.method == Method::nf4) j["double_quant"] = spec.double_quant;
  if (spec.method == Method::rtn || spec.method == Method::gptq) j["mse"] = spec.mse;
  if (spec.method == Method::awq) {
    j["awq_scaling"] = name_of(spec.awq_scaling);
    j["clip"] = spec.clip;
    j["dead"] = name_of(spec.dead);
  }
  if (spec.method != Method::gptq) return j;
  j["act_order"] = spec.act_order;
  j["static_groups"] = spec.static_groups;
  j["true_sequential"] = spec.true_sequential;
  j["damp"] = spec.damp;
  j["dead"] = name_of(spec.dead);
  j["hessian_norm"] = name_of(spec.hessian_norm);
  j["on_singular"] = name_of(spec.on_singular);
  j["block"] = spec.block;
  return j;
}

}  // namespace ptq

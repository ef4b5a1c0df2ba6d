#include "quant/scheme.h"

#include "host/error.h"

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

constexpr std::array<Name<Method>, 3> methods{{{Method::rtn, "rtn"}, {Method::gptq, "gptq"}, {Method::w8a8, "w8a8"}}};
constexpr std::array<Name<DeadPolicy>, 2> dead_policies{{{DeadPolicy::zero, "zero"}, {DeadPolicy::rtn, "rtn"}}};
constexpr std::array<Name<HessianNorm>, 2> norms{
    {{HessianNorm::per_sequence, "per-sequence"}, {HessianNorm::per_token, "per-token"}}};
constexpr std::array<Name<SingularPolicy>, 3> singular_policies{
    {{SingularPolicy::error, "error"}, {SingularPolicy::damp, "damp"}, {SingularPolicy::rtn, "rtn"}}};

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

}  // namespace

Method parse_method(std::string_view text) { return parse<Method>(methods, "--method", text); }
DeadPolicy parse_dead(std::string_view text) { return parse<DeadPolicy>(dead_policies, "--dead", text); }
HessianNorm parse_hessian_norm(std::string_view text) { return parse<HessianNorm>(norms, "--hessian-norm", text); }
SingularPolicy parse_on_singular(std::string_view text) {
  return parse<SingularPolicy>(singular_policies, "--on-singular", text);
}
std::string_view name_of(Method value) { return spelling<Method>(methods, value); }
std::string_view name_of(DeadPolicy value) { return spelling<DeadPolicy>(dead_policies, value); }
std::string_view name_of(HessianNorm value) { return spelling<HessianNorm>(norms, value); }
std::string_view name_of(SingularPolicy value) { return spelling<SingularPolicy>(singular_policies, value); }

QuantSpec defaults_of(Method method) {
  QuantSpec spec;
  spec.method = method;
  if (method == Method::w8a8) {
    spec.bits = 8;
    spec.group = -1;
  }
  return spec;
}

bool needs_calibration(Method method) { return method == Method::gptq; }

void validate(const QuantSpec& spec) {
  const auto name = name_of(spec.method);
  require(spec.bits >= 2 && spec.bits <= 8, Exit::usage, "--bits {} is out of range; 2 to 8", spec.bits);
  require(spec.group == -1 || spec.group >= 1, Exit::usage, "--group {} is out of range; -1 (whole row) or at least 1",
          spec.group);
  require(std::isfinite(spec.damp) && spec.damp >= 0.0 && spec.damp <= 1.0, Exit::usage,
          "--damp {} is out of range; 0 to 1, as a fraction of the mean diagonal of the Hessian", spec.damp);
  check(spec.block >= 1, "block of {} columns", spec.block);
  if (spec.method == Method::w8a8) {
    require(spec.bits == 8 && spec.group == -1 && spec.symmetric && !spec.mse, Exit::usage,
            "--bits, --group, --asym and --mse do not apply to w8a8: int8, symmetric, one scale per output channel");
  }
  if (spec.method != Method::gptq) {
    require(!spec.act_order, Exit::usage, "--act-order does not apply to {}; use --method gptq", name);
    require(!spec.static_groups, Exit::usage, "--static-groups does not apply to {}; use --method gptq", name);
  }
}

std::string scheme_name(const QuantSpec& spec) {
  if (spec.method == Method::w8a8) return "w8a8";
  std::string name = fmt::format("w{}a16-{}-{}", spec.bits, spec.group == -1 ? "row" : fmt::format("g{}", spec.group),
                                 spec.symmetric ? "sym" : "asym");
  if (spec.mse) name += "-mse";
  if (spec.act_order) name += "-act";
  if (spec.static_groups) name += "-static";
  return name;
}

nlohmann::json to_json(const QuantSpec& spec) {
  nlohmann::json j{
      {"method", name_of(spec.method)}, {"bits", spec.bits}, {"group", spec.group}, {"symmetric", spec.symmetric}};
  if (spec.method == Method::w8a8) return j;
  j["mse"] = spec.mse;
  if (spec.method == Method::rtn) return j;
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

// QuantSpec: every choice of a weight quantizer with its default, in this one place (spec H: what the paper does not
// print is an option here). Formulas: spec A (GPTQ), C.4 and D.1 (W8A8).
#pragma once

#include "host/grid.h"

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace ptq {

enum class Method : std::uint8_t {
  rtn,   // round to nearest, no calibration
  gptq,  // error feedback through the inverse Hessian of the calibration inputs
  w8a8,  // int8 weights per output channel, int8 activations per token, no calibration
};

// What happens to the weights of an input column that calibration never exercised (H_kk exactly 0).
enum class DeadPolicy : std::uint8_t {
  zero,  // deleted, as all reference implementations do
  rtn,   // rounded to nearest
};

// H = 2 / n sum x x^T. Visible only together with dead columns, which count as diagonal 1 in the damping.
enum class HessianNorm : std::uint8_t { per_sequence, per_token };

// When the damped Hessian cannot be factored, neither in fp32 nor in fp64.
enum class SingularPolicy : std::uint8_t {
  error,  // exit 76
  damp,   // more damping, step by step; recorded
  rtn,    // this linear is rounded to nearest; recorded
};

struct QuantSpec {
  Method method = Method::gptq;
  int bits = 4;              // 2..8
  std::int64_t group = 128;  // columns that share a scale; -1: a whole row
  bool symmetric = true;
  bool mse = false;            // search the range that minimises sum |q - w|^2.4
  bool act_order = false;      // columns in descending order of diag H
  bool static_groups = false;  // group grids from the original weights, in the original order
  bool true_sequential = true;
  double damp = 0.01;  // of the mean diagonal of H
  DeadPolicy dead = DeadPolicy::zero;
  HessianNorm hessian_norm = HessianNorm::per_sequence;
  SingularPolicy on_singular = SingularPolicy::error;
  int block = 128;  // columns of a lazy update; visible where a group starts inside a block (spec A.5)

  GridSpec grid() const { return {bits, symmetric, mse}; }
};

// The defaults of a method: those above, except that W8A8 has 8 symmetric bits and one scale per row.
QuantSpec defaults_of(Method method);

// Exit 2, naming the option, if a value is out of range or does not apply to the method.
void validate(const QuantSpec& spec);

bool needs_calibration(Method method);

// "w4a16-g128-sym", "w3a16-row-asym-act-static", "w8a8".
std::string scheme_name(const QuantSpec& spec);

// Spellings of the command line; an unknown one is exit 2 and lists the known ones.
Method parse_method(std::string_view text);
DeadPolicy parse_dead(std::string_view text);
HessianNorm parse_hessian_norm(std::string_view text);
SingularPolicy parse_on_singular(std::string_view text);
std::string_view name_of(Method value);
std::string_view name_of(DeadPolicy value);
std::string_view name_of(HessianNorm value);
std::string_view name_of(SingularPolicy value);

// All parameters that apply to the method, for provenance.
nlohmann::json to_json(const QuantSpec& spec);

}  // namespace ptq

// QuantSpec: every choice of a quantizer with its default, in this one place (spec H: what the paper does not print is
// an option here). Formulas: spec A (GPTQ), B (AWQ), C (SmoothQuant), D (W8A8, LLM.int8(), NF4).
//
// A scheme is the part of it that says what numbers a quantized model holds, written as one word:
//   w4a16-g128-sym        weights only: 4 bits, groups of 128 columns, symmetric grid
//   w3a16-row-asym-act    whole rows, asymmetric; options -mse -act (act-order) -static (static groups)
//   w4a8-g128-asym        the same weights, activations int8 per token
//   w8a8  w6a6  w4a4      integers by the absmax rule on both sides: per output channel, per token
//   w8a8-wtensor-atensor  per tensor; -astatic: calibrated activation ranges; -bmm: attention's inputs too
//   w8a8-outliers6        LLM.int8(): channels beyond 6 stay in floating point
//   wnf4a16-b64-dq        NF4 in blocks of 64, -dq: double quantization; wnf4anf4-b64: activations too
#pragma once

#include "host/grid.h"
#include "model/activation_quant.h"

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace ptq {

enum class Method : std::uint8_t {
  rtn,          // round to nearest, no calibration
  gptq,         // error feedback through the inverse Hessian of the calibration inputs
  awq,          // activation-aware scales and clipping, searched on full-precision activations
  smoothquant,  // activation ranges moved into the weights, then the absmax rule on both
  w8a8,         // the absmax rule on weights and activations, no calibration (unless -astatic)
  nf4,          // QLoRA's 4-bit code book, no calibration
};

// What happens to the weights of an input column that calibration never exercised (GPTQ: H_kk exactly 0; AWQ: mean
// magnitude exactly 0).
enum class DeadPolicy : std::uint8_t {
  zero,  // as the references: GPTQ deletes them, AWQ's scale 1e-4 rounds them to 0
  rtn,   // rounded to nearest: not deleted; AWQ: scale 1, left out of the normalisation
};

// AWQ's scale for ratio r: a^r (llm-awq), or a^r / w^(1-r) with the mean relative weight w (AutoAWQ's duo scaling).
enum class AwqScaling : std::uint8_t { activation, duo };

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
  int bits = 4;                    // 2..8 (nf4: 4)
  std::int64_t group = 128;        // columns that share a scale; -1: a whole row; nf4: elements of a block
  bool symmetric = true;           // awq: false unless asked for
  bool weight_per_tensor = false;  // smoothquant, w8a8: one scale for the whole weight
  ActivationQuant activations;     // kind none: weights only; ranges are filled by calibration
  bool mse = false;                // search the range that minimises sum |q - w|^2.4
  bool act_order = false;          // columns in descending order of diag H
  bool static_groups = false;      // group grids from the original weights, in the original order
  bool true_sequential = true;
  double damp = 0.01;  // of the mean diagonal of H
  DeadPolicy dead = DeadPolicy::zero;
  HessianNorm hessian_norm = HessianNorm::per_sequence;
  SingularPolicy on_singular = SingularPolicy::error;
  int block = 128;  // columns of a lazy update; visible where a group starts inside a block (spec A.5)
  AwqScaling awq_scaling = AwqScaling::activation;
  bool clip = true;             // awq: search clipping ranges
  std::optional<double> alpha;  // smoothquant: migration strength; empty: the family's (spec C.3)
  bool double_quant = false;    // nf4: absmax values are quantized too

  GridSpec grid() const { return {bits, symmetric, mse, method == Method::awq ? GridRule::awq : GridRule::gptq}; }
  // smoothquant, w8a8: weights are signed integers with the absmax rule, not codes on a grid.
  bool absmax_weights() const { return method == Method::smoothquant || method == Method::w8a8; }
};

// The defaults of a method: those above, except AWQ is asymmetric, SmoothQuant and W8A8 are w8a8, NF4 wnf4a16-b64.
QuantSpec defaults_of(Method method);

// SmoothQuant's migration strength of a family (spec C.3, H).
double default_alpha(std::string_view family);

// Exit 2, naming the option, if a value is out of range or does not apply to the method.
void validate(const QuantSpec& spec);

bool needs_calibration(const QuantSpec& spec);

// The scheme as one word, and back: sets every field of `spec` that a scheme names. apply_scheme(s, scheme_name(s))
// changes nothing. Exit 2 naming the part that is wrong, with an example.
std::string scheme_name(const QuantSpec& spec);
void apply_scheme(QuantSpec& spec, std::string_view scheme);

// Bits that a weight takes in memory, scales and zeros included (16-bit scales; nf4: fp32 or double-quantized absmax).
double bits_per_weight(const QuantSpec& spec, std::int64_t columns);

// Spellings of the command line; an unknown one is exit 2 and lists the known ones.
Method parse_method(std::string_view text);
DeadPolicy parse_dead(std::string_view text);
HessianNorm parse_hessian_norm(std::string_view text);
SingularPolicy parse_on_singular(std::string_view text);
AwqScaling parse_awq_scaling(std::string_view text);  // "llm-awq", "duo"
std::string_view name_of(Method value);
std::string_view name_of(DeadPolicy value);
std::string_view name_of(HessianNorm value);
std::string_view name_of(SingularPolicy value);
std::string_view name_of(AwqScaling value);

// All parameters that apply to the method, for provenance.
nlohmann::json to_json(const QuantSpec& spec);

}  // namespace ptq

// How the inputs of a block's linears are quantized while a model runs: data that a checkpoint carries (ptq.json, or
// the quantization_config of a compressed-tensors checkpoint) and that the forward pass obeys.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace ptq {

enum class ActivationKind : std::uint8_t {
  none,     // floating point
  integer,  // symmetric, absmax rule (spec C.4)
  nf4,      // blocks of 64 features of a token (spec D.3)
};

enum class ActivationRange : std::uint8_t {
  token,     // each token's own absmax
  sequence,  // "per-tensor dynamic" of the reference, whose tensor is one sequence
  fixed,     // static: one absmax per linear input, from calibration
};

// Calibrated absmax of one block, for ActivationRange::fixed. 0 where unused.
struct FixedRanges {
  std::array<float, 4> input{};  // by Stage: input of qkv, o, gate_up, down
  std::array<float, 3> qkv{};    // outputs of q, k, v before rope, for bmm
};

struct ActivationQuant {
  ActivationKind kind = ActivationKind::none;
  int bits = 8;  // integer: 2..8
  ActivationRange range = ActivationRange::token;
  bool bmm = false;  // also quantize the outputs of q, k and v, the inputs of attention's products (spec C.4)
  // > 0, integer tokens only: LLM.int8(), columns with an |x| of at least this in the sequence stay floats (spec D.2).
  float outlier_threshold = 0;
  std::vector<FixedRanges> fixed;  // one per layer if range == fixed

  // Integer activations meet weights of the absmax rule (spec C.4): linears stored in floats get so many bits, with one
  // scale per row or per tensor. 0: weights stay as they are stored (groups of a 4-bit grid, say).
  int weight_bits = 0;
  bool weight_per_tensor = false;

  explicit operator bool() const { return kind != ActivationKind::none; }
};

// How products of quantized activations with integer weights are computed.
enum class IntegerProducts : std::uint8_t {
  exact,  // s8 x s8 -> s32, where the weight is integers with a scale per row; fake elsewhere
  fake,   // dequantized operands in the compute dtype: the oracle
};

}  // namespace ptq

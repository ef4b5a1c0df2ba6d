// The Hessian of a linear layer's squared output error, H = 2/n sum over tokens of x x^T, and its preparation for
// GPTQ: dead columns, act-order, damping, factorisation. Source: IST-DASLab/gptq gptq.py (spec A.2 to A.4, A.6).
#pragma once

#include "host/ops.h"
#include "quant/scheme.h"

#include <cstdint>
#include <string>
#include <vector>

namespace ptq {

// Sums X^T X over calls and normalises once at the end (the reference rescales at every call: equal to rounding).
class Hessian {
 public:
  Hessian(Ops& ops, std::int64_t width);

  // A finished matrix [K,K] f32 in the reference's normalisation, upper triangle valid; not damped.
  static Hessian of_matrix(Ops& ops, Tensor h);

  // X [T,K] on the device, compute dtype; it holds `sequences` sequences. T K^2 flops.
  void add(const Tensor& x, std::int64_t sequences);

  std::int64_t width() const { return width_; }
  std::int64_t sequences() const { return sequences_; }
  std::int64_t tokens() const { return tokens_; }

  // The normalised upper triangle [K,K] f32 on the host (the strict lower triangle is unspecified). The sum is
  // consumed: call it once. Exit 70 if nothing was added.
  Tensor finish(HessianNorm norm);

 private:
  Ops& ops_;
  std::int64_t width_ = 0, sequences_ = 0, tokens_ = 0;
  Tensor sum_;
  bool finished_ = false;
};

// What the sweep needs. Linears with the same input share it.
struct HessianFactor {
  Tensor u;  // [K,K] f32 on the device, in processing order; empty: not factorable, round to nearest
  std::vector<std::int32_t> order;  // order[j] = column processed j-th
  std::vector<std::uint8_t> dead;   // [K], by column: never exercised
  std::int64_t dead_columns = 0;
  double damp = 0.0;        // relative damping that was used
  double damp_added = 0.0;  // what was added to the diagonal
  int retries = 0;          // factorisations beyond the first
  bool in_fp64 = false;     // the one that succeeded
};

// Factors H: fp32, then once fp64, then what spec.on_singular says. Exit 76, naming `where`, if that is `error`, if
// damping up to 1.0 did not help, or if the diagonal is not finite. Memory: two matrices [K,K] besides H's own.
HessianFactor factor_hessian(Ops& ops, Hessian& hessian, const QuantSpec& spec, const std::string& where);

}  // namespace ptq

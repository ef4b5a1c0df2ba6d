// A block's linears: how weights are laid out, and how inputs are quantized on their way into the product.
#pragma once

#include "host/ops.h"
#include "model/activation_quant.h"
#include "model/packed_format.h"

#include <optional>
#include <span>

namespace ptq {

// y = x W^T + b. Precision and weight format are data of the weight.
struct Linear {
  WeightPtr weight;
  Tensor bias;  // f32 [N] or empty

  explicit operator bool() const { return weight != nullptr; }
};

inline const ActivationQuant no_quantization;

// The format of a floating-point weight for products in the compute dtype.
WeightFormat float_format(DType compute);

// Do inputs that are quantized this way meet weights as integers?
bool takes_integers(const ActivationQuant& how, IntegerProducts products);

// The format that pack_floats() gives.
WeightFormat format_of_floats(DType compute, const ActivationQuant& how, IntegerProducts products);

// The weight of a linear that is stored in floats, [N,I] on the host. With weight_bits it becomes integers: s8 for
// exact products, else their values. Give it in fp32 then: codes come from the stored weight.
WeightPtr pack_floats(Ops& ops, const Tensor& w, DType compute, const ActivationQuant& how, IntegerProducts products);

// The weight of a linear that is stored as int8: s8 for exact products of integer activations, else int8 codes that are
// expanded to floats a panel at a time.
WeightPtr pack_int8(Ops& ops, const Int8Weight& w, DType compute, const ActivationQuant& how, IntegerProducts products);

// y = the values of x [T,I] after quantization. y may be x. Ranges are those of tokens, of the sequences that
// `segments` delimit, or `fixed_absmax`.
void fake_quantize(Ops& ops, const Tensor& y, const Tensor& x, const ActivationQuant& how, float fixed_absmax,
                   std::span<const Segment> segments);

// The input of linears that share it, in the forms that they need, each made once. It refers to `x` and `how`. `few`:
// decoding, use linear_few.
class SharedInput {
 public:
  SharedInput(Ops& ops, const Tensor& x, const ActivationQuant& how, float fixed_absmax = 0.0f,
              std::span<const Segment> segments = {}, bool few = false)
      : ops_(ops), x_(x), how_(how), fixed_absmax_(fixed_absmax), segments_(segments), few_(few) {}

  Tensor apply(const Linear& linear);  // [T,N] in the dtype of x

 private:
  Ops& ops_;
  const Tensor& x_;
  const ActivationQuant& how_;
  float fixed_absmax_;
  std::span<const Segment> segments_;
  bool few_;
  std::optional<Int8Rows> codes_;
  Tensor values_;
};

// Does a token's result depend on the other tokens of its sequence? Then sequences cannot share the computation of a
// common prefix.
inline bool spans_sequence(const ActivationQuant& how) {
  return how.kind == ActivationKind::integer && (how.range == ActivationRange::sequence || how.outlier_threshold > 0);
}

}  // namespace ptq

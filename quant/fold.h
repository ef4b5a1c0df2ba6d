// Function-preserving changes of a block: a factor per channel moves between a norm or linear and the linears that read
// its output (spec B.5, C.2). AWQ, SmoothQuant and outlier injection are built from these.
#pragma once

#include "model/block_weights.h"
#include "model/transformer.h"

#include <span>
#include <string>
#include <vector>

namespace ptq {

// Where the input of a stage's linears comes from, if a channel's scale can be moved there exactly.
struct ScaleSource {
  enum class Kind : std::uint8_t {
    norm,    // gain (and bias) of a norm
    linear,  // rows of the linear before: v for o (plain heads only), up for down, fc1 for fc2 behind ReLU
    none,    // not exact in this family
  };
  Kind kind = Kind::none;
  NormRole norm = NormRole::attention_in;
  LinearRole linear = LinearRole::v;
  std::string reason;  // kind none: why, for messages ("post-norm blocks feed the residual stream into q, k, v")
};

// o from v only where every query head has its own value head, as in AWQ's references (spec B.4).
ScaleSource scale_source(const ModelConfig& config, Stage stage);

// The linears that read the norm's or linear's output: for a parallel block's norm {q,k,v,gate,up}.
std::vector<LinearRole> scaled_linears(const ModelConfig& config, Stage stage);

// source /= t, linears' columns *= t. t [I] f32, positive. In fp32; the product of both is the same up to rounding, and
// bit for bit if all t are powers of two.
void fold_scales(BlockWeights& block, const ModelConfig& config, Stage stage, std::span<const float> t);

// W[:, k] *= t[k], and /= t[k]. W [N,I] f32 on the host.
void multiply_columns(const Tensor& w, std::span<const float> t);
void divide_columns(const Tensor& w, std::span<const float> t);

}  // namespace ptq

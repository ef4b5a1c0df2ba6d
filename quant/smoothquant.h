// SmoothQuant (Xiao et al., arXiv 2211.10438; spec C; source: smoothquant smooth.py, calibration.py): outliers of
// activations are divided out by a factor per channel that moves from a norm's gain into the linears behind it; then
// weights and activations are rounded by the absmax rule.
#pragma once

#include "quant/activation_ranges.h"
#include "quant/quantize.h"

#include <span>
#include <vector>

namespace ptq {

// t_k = max(A_k^alpha / max(B_k, 1e-5)^(1 - alpha), 1e-5) in fp32, not normalised. A_k: largest |x_k| that calibration
// saw, B_k: largest |w_nk| of the linears behind the norm. A channel never seen gets 1e-5, as in the reference.
std::vector<float> smoothing_scales(std::span<const float> a, std::span<const float> b, double alpha);

// Folds the scales of q, k, v's norm and of gate and up's norm (one norm in a parallel block) into the weights and
// divides the ranges by them: the block computes the same function of smoother activations.
void smooth_block(Ops& ops, const ModelConfig& config, double alpha, BlockWeights& weights, BlockRanges& ranges);

// Exit 2 with the reason if the family has no norm in front of its linears.
void require_smoothable(const ModelConfig& config);

// Smooths and quantizes every block by what calibration saw of it in full precision. Inputs of o and down are not
// smoothed. Fills the report: linears (dead_columns: channels never seen), alpha, fixed activation ranges (after
// smoothing). Exit 2, 76 as quantize_linears.
void quantize_smoothquant(const ModelFiles& files, Ops& ops, const QuantSpec& spec, const ModelRanges& ranges,
                          const QuantSink& sink, QuantizeReport& report, const ProgressFn& progress,
                          const WalkPart& part = {});

}  // namespace ptq

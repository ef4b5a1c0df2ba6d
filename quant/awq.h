// AWQ (spec B; Lin et al. 2023): activation-aware scales and clipping ranges, then round to nearest. Every block is
// calibrated on full-precision activations: nothing propagates quantization error.
#pragma once

#include "quant/activation_ranges.h"
#include "quant/quantize.h"

namespace ptq {

// Exit 2 unless the group divides the input columns of every linear; names one that it does not divide.
void require_awq_groups(const ModelConfig& config, const QuantSpec& spec);

// Quantizes all linears of all blocks in the order of a forward pass: sink.linear for each, sink.folded once per block.
// Fills report.linears and report.awq, and report.seconds with the time that belongs to no linear. Errors of a linear
// are against its scaled weight before clipping. Exit 2 (require_awq_groups) before any work; 65 bad windows; 76
// non-finite values, naming layer and linear.
// `ranges`, unless null, gets what SmoothQuant would measure if it is empty.
void quantize_awq(const Transformer& model, const QuantSpec& spec, std::span<const Window> windows,
                  const QuantSink& sink, QuantizeReport& report, const ProgressFn& progress, const WalkPart& part = {},
                  ModelRanges* ranges = nullptr);

}  // namespace ptq

// Input columns of linears set to zero, without any quantization: the control that tells what a quantizer does from what
// it loses by deleting columns, be they those that calibration never exercised (GPTQ and AWQ delete them, spec A.3,
// B.8) or those that outlier injection made so small that any grid rounds them away.
#pragma once

#include "quant/activation_ranges.h"
#include "quant/inject.h"
#include "quant/quantize.h"

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace ptq {

// Ascending columns of the linears of each stage of a block.
using StageColumns = std::array<std::vector<std::int64_t>, all_stages.size()>;

// Channels that no token of calibration moved from 0, by layer.
std::vector<StageColumns> dead_columns(const ModelRanges& ranges);

std::vector<StageColumns> injected_columns(const ModelConfig& config, const InjectPlan& plan);

// Hands every linear that loses columns to the sink; the report lists those, with their number as dead_columns. Exit 76
// if a weight is not finite.
QuantizeReport remove_columns(const ModelFiles& files, Ops& ops, std::span<const StageColumns> columns,
                              const QuantSink& sink, const ProgressFn& progress = {});

}  // namespace ptq

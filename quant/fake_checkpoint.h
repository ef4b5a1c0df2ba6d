// Fake-quantized checkpoints: the source's tensors under their own names with dequantized weights, which any Hugging
// Face loader runs, and a provenance card ptq.json.
#pragma once

#include "quant/quantize.h"

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <span>

namespace ptq {

struct QuantizeJob {
  std::filesystem::path model;   // checkpoint directory
  std::filesystem::path output;  // see OutputDirectory
  bool force = false;            // replace an output that ptq wrote
  QuantSpec spec;
  DType dtype = DType::f32;  // computes in it and stores in it: f32, bf16, f16
};

// Writes `output`: model.safetensors, config.json with its dtype updated, tokenizer files, ptq.json with all
// parameters, the calibration `manifest` (any JSON; null if the method needs none) and the health of every linear.
// Linears are written as soon as they are quantized. Errors of quantize_linears and OutputDirectory; on any of them
// nothing is left behind and an older output is untouched.
QuantizeReport quantize_checkpoint(Ops& ops, const QuantizeJob& job, std::span<const Window> windows,
                                   const nlohmann::json& manifest, const ProgressFn& progress = {});

// Does the card of a checkpoint directory ask for int8 activations? False without a card. Exit 65 if it is malformed.
bool activations_int8(const std::filesystem::path& directory);

}  // namespace ptq

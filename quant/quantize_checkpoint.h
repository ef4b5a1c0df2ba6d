// Quantizes a checkpoint directory into another one, in any export format, with a provenance card ptq.json.
#pragma once

#include "quant/export_format.h"
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
  DType dtype = DType::f32;  // computes in it; what is stored in floats: see float_type()
  ExportFormat format = ExportFormat::fake;
};

// Writes `output`: model.safetensors; config.json with its dtype (and, if packed, quantization_config) and tokenizer
// files; ptq.json with all parameters, the calibration `manifest` (any JSON; null if the method needs none) and the
// health of every linear, its storage_error included. Linears are written as soon as they are quantized. Exit 2 if the
// format cannot hold the scheme or the model's shapes, before any work; 65 if the model is packed already; errors of
// quantize_linears, CheckpointWriter and OutputDirectory. On any of them nothing is left behind and an older output is
// untouched.
QuantizeReport quantize_checkpoint(Ops& ops, const QuantizeJob& job, std::span<const Window> windows,
                                   const nlohmann::json& manifest, const ProgressFn& progress = {});

}  // namespace ptq

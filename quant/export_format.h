// What a quantized checkpoint is stored as, and what each format can hold (spec F).
#pragma once

#include "model/packed_format.h"
#include "quant/scheme.h"

#include <nlohmann/json_fwd.hpp>
#include <string_view>

namespace ptq {

class ModelFiles;

enum class ExportFormat : std::uint8_t {
  fake,                // dequantized weights under the source's names; any scheme, any loader
  gptq,                // AutoGPTQ's layout, zeros stored minus one
  gptq_v2,             // the same with zeros as they are
  awq,                 // AutoAWQ's GEMM layout
  compressed_tensors,  // int-quantized for 8-bit absmax schemes, else pack-quantized
};

ExportFormat parse_export_format(std::string_view text);  // exit 2 listing the known spellings
std::string_view name_of(ExportFormat format);            // "fake", "gptq", "gptq-v2", "awq", "compressed-tensors"

// The layout in which `format` stores `spec` of this model; PackedFormat::none for fake. Exit 2, naming the module and
// the option to change, if the format cannot hold the scheme or a linear's shape.
PackedConfig packed_config_of(ExportFormat format, const QuantSpec& spec, const ModelFiles& files);

// config.json's quantization_config: only keys that the format's consumers know. Not for PackedFormat::none.
nlohmann::json quantization_config(const PackedConfig& config, const QuantSpec& spec);

// The type of everything that is not an integer, scales included. Fake checkpoints keep the compute type. Packed ones
// hold 16 bits, as their readers run: f16, or bf16 if that is the compute type and the format has it (AWQ does not).
DType float_type(ExportFormat format, DType compute);

}  // namespace ptq

// Packed checkpoints of other tools and of ptq's exports: which of them a directory holds, and its linears as integer
// codes (spec F). Everything is read as it is stored; nothing is expanded to floats. Each format is known here in both
// directions, so that what pack() writes is what read_codes() reads.
#pragma once

#include "host/checkpoint.h"
#include "host/ops.h"

#include <filesystem>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace ptq {

enum class PackedFormat : std::uint8_t {
  none,  // floating-point tensors
  gptq,  // v1: zeros are stored minus one
  gptq_v2,
  awq_gemm,
  int_quantized,   // compressed-tensors: int8 weights, a scale per row
  pack_quantized,  // compressed-tensors: 4 or 8 bits in int32 words, group or row scales
};

std::string_view name_of(PackedFormat format);  // "gptq", "gptq_v2", "awq", "int-quantized", "pack-quantized", "none"

// config.json's quantization_config, or quantize_config.json beside it.
struct PackedConfig {
  PackedFormat format = PackedFormat::none;
  int bits = 0;
  std::int64_t group = -1;  // columns that share a scale; -1: the whole row
  bool symmetric = true;
  bool act_order = false;         // desc_act, actorder "group": groups are not runs of columns, g_idx is needed
  bool int8_activations = false;  // compressed-tensors with dynamic per-token int8 input activations
  std::vector<std::string> kept;  // the ignore list as it stands (modules or patterns); tensors decide, not this list

  explicit operator bool() const { return format != PackedFormat::none; }
};

// Exit 65 naming the key for a method, format, bit width or strategy that cannot be run (with the list of those that
// can).
PackedConfig read_packed_config(const std::filesystem::path& directory);

// A tensor of a packed linear.
struct PackedTensor {
  Shape shape;
  DType dtype = DType::i32;  // f32 stands for any floating type
  bool optional = false;
};

// What stands for `<module>.weight` [n, i], by name. Exit 65 if n, i do not fit the packing.
std::map<std::string, PackedTensor> packed_tensors(const PackedConfig& config, const std::string& module,
                                                   std::int64_t n, std::int64_t i);

// The tensor whose presence says that the module is packed: "<module>.qweight", ".weight_packed", ".weight" (of int8).
std::string packed_weight_name(const PackedConfig& config, const std::string& module);

// The linear's codes. Tensors have been checked against packed_tensors(). Exit 65 for a g_idx outside the groups,
// non-finite scales, a zero point that readers of GPTQ v1 disagree about. Not for int_quantized.
CodedWeight read_codes(const Checkpoint& checkpoint, const PackedConfig& config, const std::string& module,
                       std::int64_t n, std::int64_t i);

// int_quantized: codes [N,I] i8 and scales [N] f32.
struct Int8Weight {
  Tensor codes, scales;
};
Int8Weight read_int8(const Checkpoint& checkpoint, const std::string& module, std::int64_t n, std::int64_t i);

// The tensors of a linear in the format, by name, scales rounded to `scales` (f16, bf16, f32). Codes, zeros and g_idx
// are valid (internal error otherwise), except that GPTQ v1 cannot hold a zero point of 0: exit 2 with the way out.
std::map<std::string, Tensor> pack(const PackedConfig& config, const std::string& module, const CodedWeight& w,
                                   DType scales);
std::map<std::string, Tensor> pack(const std::string& module, const Int8Weight& w, DType scales);

// [N,I] f32: scale * (code - zero), and code * scale.
Tensor dequantize(const CodedWeight& w);
Tensor dequantize(const Int8Weight& w);

// Rows [begin, end) of a weight, for fused modules.
CodedWeight rows_of(const CodedWeight& w, std::int64_t begin, std::int64_t end);
Int8Weight rows_of(const Int8Weight& w, std::int64_t begin, std::int64_t end);

}  // namespace ptq

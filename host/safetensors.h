// The safetensors container: u64 header length, JSON header, tensor bytes. open_safetensors is declared in
// host/checkpoint.h; this header is for host/checkpoint.cpp and the writer.
#pragma once

#include "host/checkpoint.h"

#include <string_view>

namespace ptq {

// `name` is the file's name inside its checkpoint, for TensorInfo::file.
std::unique_ptr<Checkpoint> open_safetensors(const std::filesystem::path& file, const std::string& name);

// The dtype's name in a header ("BF16"); empty for DType::other.
std::string_view safetensors_name(DType dtype);

}  // namespace ptq

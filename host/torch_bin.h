// pytorch_model.bin: a zip of stored entries whose data.pkl describes the tensors (spec models.md 4.3).
#pragma once

#include "host/checkpoint.h"

namespace ptq {

// `name` is the file's name inside its checkpoint, for TensorInfo::file. Exit 66 missing, 65 malformed.
std::unique_ptr<Checkpoint> open_torch_bin(const std::filesystem::path& file, const std::string& name);

}  // namespace ptq

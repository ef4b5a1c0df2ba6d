// What a checkpoint that ptq writes takes over from the one that it was made from, beside weights.
#pragma once

#include "model/weights.h"

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <set>
#include <string>

namespace ptq {

// Copies config.json, with its dtype and, unless null, `quantization` as quantization_config, and the tokenizer's
// files as far as there are any.
void copy_companions(const std::filesystem::path& from, const std::filesystem::path& to, DType dtype,
                     const nlohmann::json& quantization);

// The checkpoint's identity for provenance: {"name", "files": [{"name", "sha256"}]}. Reads all of it.
nlohmann::json source_of(const ModelFiles& files);

// Names of the tensors that hold linears of blocks; fused ones once.
std::set<std::string> linear_tensors(const ModelFiles& files);

// Writes the card, see model/activation_card.h.
void write_card(const std::filesystem::path& directory, const nlohmann::json& card);

// Exit 2 if writing `output` would replace `model`.
void require_apart(const std::filesystem::path& model, const std::filesystem::path& output);

}  // namespace ptq

// A calibration set made again from its manifest.
#pragma once

#include "data/calibration.h"

#include <filesystem>
#include <nlohmann/json_fwd.hpp>

namespace ptq {

// The manifest in a file that `ptq calibration --out` or `ptq quantize` (ptq.json) wrote. Exit 66, 65.
nlohmann::json read_manifest(const std::filesystem::path& file);

// What was asked for. `origin` names the manifest in messages. Exit 65 if it does not say, or says nonsense.
CalibrationRequest replay_request(const nlohmann::json& manifest, const std::filesystem::path& data,
                                  const std::string& origin);

// Exit 65 unless the rebuilt set has the manifest's ids, naming the first of sources, tokenizer and rule that differs.
void verify_replay(const nlohmann::json& manifest, const CalibrationManifest& rebuilt, const std::string& origin);

}  // namespace ptq

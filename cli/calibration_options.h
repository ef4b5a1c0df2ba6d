// The options that name a calibration set, shared by `ptq calibration` and `ptq quantize`.
#pragma once

#include "cli/options.h"
#include "data/calibration.h"

namespace ptq {

struct CalibrationOptions {
  std::int64_t samples = 128, seqlen = 2048;
  std::string sampling = "consecutive";
};

void add_calibration_options(CLI::App& command, CalibrationOptions& o);

// Builds `set` for the model or tokenizer in `model`. The tokenizer is loaded only if the set needs one.
CalibrationSet load_calibration(const std::string& set, const CalibrationOptions& o, const std::filesystem::path& model,
                                const GlobalOptions& global);

}  // namespace ptq

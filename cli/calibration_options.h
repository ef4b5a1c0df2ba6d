// The options that name a calibration set, shared by all commands that calibrate.
#pragma once

#include "cli/options.h"
#include "data/calibration.h"

#include <optional>

namespace ptq {

struct CalibrationOptions {
  std::optional<std::int64_t> samples;  // the set's own number if not given
  std::int64_t seqlen = 2048;
  std::string sampling = "auto";
  std::string format;
};

void add_calibration_options(CLI::App& command, CalibrationOptions& o);

// Builds `set` for the model or tokenizer in `model`. The tokenizer is loaded only if the set needs one.
CalibrationSet load_calibration(const std::string& set, const CalibrationOptions& o, const std::filesystem::path& model,
                                const GlobalOptions& global);

// The same for a request made otherwise.
CalibrationSet load_calibration(const CalibrationRequest& request, const std::filesystem::path& model);

}  // namespace ptq

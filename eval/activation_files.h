// An activation study on disk: a directory with
//   activations.json         "format", "side", "bins", "range", "wide_range", "layers", "windows", "tokens",
//   "channels": {"o", "down"},
//                            "summary" (activation_summary.h), and what the caller says about the study: "model",
//                            "compute", "calibration": [manifest of every part]
//   activations.safetensors  for M in o, down; L layers, C channels of M, B bins:
//     M.first.moments, M.rest.moments   [L, 5, C] f64   sums of x, |x|, x^2, x^3, x^4 at position 0, at all others
//     M.first.extremes, M.rest.extremes [L, 2, C] f32   smallest and largest x (inf, -inf: no tokens)
//     M.first.counts, M.rest.counts     [L, B + 2] i64  histogram: below -range, equal bins, range and above
//     M.first.wide_counts, ...          [L, B + 2] i64  the same for [-wide_range, wide_range)
//     M.mean, M.kurtosis                [L, C] f64      derived, all positions; M.without_first.mean, ...: without 0
//     M.absmax, M.min, M.max            [L, C] f32
//     M.counts                          [L, B + 2] i64
// Reading needs only the sums; the derived arrays are for those who plot.
#pragma once

#include "eval/activations.h"
#include "quant/output_directory.h"

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

namespace ptq {

struct StoredStudy {
  ActivationStudy study;
  nlohmann::json about;  // "model", "compute", "calibration"
};

// What activations.safetensors holds.
std::map<std::string, Tensor> study_arrays(const ActivationStudy& study);
// "side", "bins", "range", "wide_range", "layers", "windows", "tokens", "channels", "summary"
nlohmann::json study_json(const ActivationStudy& study);

// Writes both files and publishes the directory. Exit 73, 74.
void write_study(OutputDirectory& output, const StoredStudy& stored);

// Exit 66 missing, 65 malformed: sizes, or counts that do not add up to the tokens.
StoredStudy read_study(const std::filesystem::path& directory);

// One study of all windows. Exit 65 unless model, compute dtype and sizes are the same, or if a part occurs twice.
StoredStudy merged(const std::vector<StoredStudy>& parts);

}  // namespace ptq

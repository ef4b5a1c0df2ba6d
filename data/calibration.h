// Calibration sets: a name or a file becomes windows of token ids and a manifest that says exactly how.
//
// SET is a named set (data/calibration_sets.h), a text or JSONL file, a directory of them, ids:FILE (each line is one
// window, used as it is) or a mixture (data/mixture.h).
#pragma once

#include "data/packing.h"

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

namespace ptq {

struct CalibrationRequest {
  std::string set;
  std::optional<std::int64_t> samples = {};  // at most so many windows; by default the set's own number
  std::int64_t seqlen = 2048;                // tokens of a window
  std::uint64_t seed = 0;                    // of nonsense text and of random sampling
  Sampling sampling = Sampling::automatic;
  std::string format = {};          // one of question_formats(); only for sets of questions
  std::filesystem::path data = {};  // data directory; only named sets need one
};

// Windows of a set with an own number of them, e.g. of a mixture.
constexpr std::int64_t default_samples = 128;

// False for ids:FILE.
bool needs_tokenizer(const std::string& set);

// `tokenizer` may be null where needs_tokenizer is false. Exit 2 for impossible sizes, 66 missing files and unknown
// sets, 65 malformed files and sets with fewer tokens than one window.
CalibrationSet build_calibration(const CalibrationRequest& request, const Tokenizer* tokenizer);

const char* name_of(Sampling sampling);
std::optional<Sampling> find_sampling(const std::string& name);

}  // namespace ptq

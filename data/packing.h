// From a corpus to windows: where texts are joined, drawn and cut.
#pragma once

#include "data/calibration_sets.h"
#include "data/manifest.h"

#include <cstdint>
#include <string>
#include <vector>

namespace ptq {

struct CalibrationSet {
  std::vector<std::vector<std::int32_t>> windows;
  std::string text;  // of a generated set, so that it can be stored; empty otherwise
  CalibrationManifest manifest;
};

struct WindowRule {
  std::int64_t samples;  // windows at most; documents for awq
  std::int64_t seqlen;   // tokens of a window
  std::uint64_t seed;    // of the draws
  Sampling sampling;     // not automatic

  std::int64_t tokens() const { return samples * seqlen; }  // both are at most 2^30
};

// Windows of the corpus, and in the manifest where they come from and how. Exit 65 naming the levers if the corpus
// does not give a single window.
CalibrationSet pack(const Corpus& corpus, const Tokenizer& tokenizer, const WindowRule& rule);

// The reference's shuffle(seed=42) when the user's seed is 0.
constexpr std::uint64_t awq_seed = 42;

// The ids of the tokenizer's prefix and of `text`.
std::vector<std::int32_t> with_prefix(const Tokenizer& tokenizer, std::string_view text);

// Windows from the start of `ids`, at most rule.samples, without overlap; exit 65 if there is none.
void cut_windows(CalibrationSet& set, const std::vector<std::int32_t>& ids, const WindowRule& rule);

}  // namespace ptq

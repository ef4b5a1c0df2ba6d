// Calibration sets: a name or a file becomes windows of token ids and a manifest that says exactly how.
//
// SET is wikitext2, c4, nonsense, a text or JSONL file, or ids:FILE (each line is one window, used as it is). More sets
// are more rows of find_corpus.
#pragma once

#include "data/corpora.h"
#include "model/tokenizer.h"

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace ptq {

enum class Sampling : std::uint8_t {
  consecutive,  // documents joined by two newlines, cut from the start into windows without overlap
  gptq,         // the reference's draws (spec A.8): a random long enough document, then a random window of it
};

struct CalibrationRequest {
  std::string set;
  std::int64_t samples = 128;  // at most so many windows; a finite corpus may give fewer
  std::int64_t seqlen = 2048;  // tokens of a window
  std::uint64_t seed = 0;      // of nonsense text and of gptq sampling
  Sampling sampling = Sampling::consecutive;
  std::filesystem::path data = {};  // data directory; only named sets need one
};

struct CalibrationManifest {
  std::string set;
  std::vector<SourceFile> sources;
  std::int64_t documents = 0;  // used
  std::string text_sha256;     // of the text that was tokenized; empty for ids: and gptq sampling
  std::string packing;
  std::vector<std::int32_t> prefix;  // ids that stand once before each tokenized text (BOS), from the tokenizer
  std::uint64_t seed = 0;
  bool seeded = false;  // whether the seed had any influence
  std::int64_t samples = 0, seqlen = 0, windows = 0, tokens = 0, unique_tokens = 0;
  std::string ids_sha256;  // all windows in order, little-endian int32
  std::vector<std::string> notes;
};

struct CalibrationSet {
  std::vector<std::vector<std::int32_t>> windows;
  std::string text;  // of a generated set, so that it can be stored; empty otherwise
  CalibrationManifest manifest;
};

// False for ids:FILE.
bool needs_tokenizer(const std::string& set);

// `tokenizer` may be null where needs_tokenizer is false. Exit 2 for impossible sizes, 66 missing files, 65 malformed
// ones and sets with fewer tokens than one window.
CalibrationSet build_calibration(const CalibrationRequest& request, const Tokenizer* tokenizer);

// random.seed(seed); "".join(random.choice(string.punctuation + string.whitespace) for _ in range(length)) in CPython:
// the paper's nonsense set, uniform over 32 punctuation and 6 white-space characters.
std::string nonsense_text(std::uint64_t seed, std::int64_t length);

nlohmann::json manifest_json(const CalibrationManifest& manifest);

}  // namespace ptq

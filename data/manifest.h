// What a calibration set is made of, exactly enough to make it again.
#pragma once

#include "data/corpora.h"
#include "model/tokenizer.h"

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace ptq {

struct CalibrationManifest {
  std::string set;
  std::vector<SourceFile> sources;  // files that were read
  std::int64_t documents = 0;       // used
  std::int64_t sentences = 0;       // covered by the windows, the last one perhaps in part; 0 where not counted
  std::string text_sha256;          // of the text that was tokenized; empty for ids: and for drawn documents
  std::string packing;
  std::string format;                // of questions and answers; empty for other sets
  std::vector<std::int32_t> prefix;  // ids that stand once before each tokenized text (BOS), from the tokenizer
  std::uint64_t seed = 0;
  bool seeded = false;  // whether the seed had any influence
  std::int64_t samples = 0, seqlen = 0, windows = 0, tokens = 0, unique_tokens = 0;
  std::string ids_sha256;  // all windows in order, little-endian int32
  std::vector<std::string> notes;

  double weight = 0;                       // as part of a mixture, of all parts' 1
  std::vector<CalibrationManifest> parts;  // of a mixture

  // Of the whole, not of a part; see data/replay.h.
  std::string tokenizer, tokenizer_sha256;
  std::string request;  // JSON object
};

nlohmann::json manifest_json(const CalibrationManifest& manifest);

// What a tokenizer does rather than which files it has: sha256 of its size, its prefix and its ids of a fixed text of
// many scripts.
std::string tokenizer_sha256(const Tokenizer& tokenizer);

}  // namespace ptq

// Multiple-choice tasks: publishers' files rendered into contexts and continuations the way lm-evaluation-harness does
// (spec E.3). A task is a row in the table of tasks.cpp.
#pragma once

#include "data/corpora.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace ptq {

// One question. Choice i is scored as log p(continuations[i] | contexts[i]).
struct ChoiceDocument {
  std::int64_t id = 0;                // record number in the file, from 0
  std::vector<std::string> contexts;  // equal except in WinoGrande, where the context holds the choice
  std::vector<std::string> continuations;
  std::vector<std::int64_t> chars;  // code points of each choice's text, without the leading space
  int gold = 0;
};

struct Task {
  std::string name;
  bool normalized = true;                 // acc_norm is defined (not for WinoGrande)
  std::vector<ChoiceDocument> documents;  // in file order
  std::vector<SourceFile> sources;
};

std::vector<std::string> known_tasks();

// `task` is arc_challenge (test), piqa or winogrande (dev) in the publishers' formats below `data`, or a JSONL file of
// {"context": str, "choices": [str, ...], "gold": int} lines, whose continuations are " " + choice, or of lines in
// WinoGrande's format (one such line and acc_norm is not defined). Takes the first `limit` documents (-1: all). Exit 66
// missing, 65 malformed or empty, naming the line.
Task read_task(const std::string& task, const std::filesystem::path& data, std::int64_t limit = -1);

}  // namespace ptq

// Multiple-choice questions as calibration text.
#pragma once

#include "data/documents.h"

#include <filesystem>
#include <string>
#include <vector>

namespace ptq {

struct QuestionTexts {
  std::vector<std::string> texts;
  std::vector<CorpusFile> files;  // that they come from
};

// The questions of `task` (as read_task takes it), rendered in one of question_formats():
//   qa            "Question: ...\nAnswer: the right answer" (the default; the paper does not say, spec G.5)
//   answers       the right answer alone
//   all-choices   one text for each choice, "Question: ...\nAnswer: choice": what the evaluation scores
QuestionTexts question_texts(const std::string& task, const std::filesystem::path& data, const std::string& format);

}  // namespace ptq

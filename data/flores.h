// FLORES: one text of 2009 sentences in each of some 200 languages, in the layouts in which its publishers ship it.
//
//   flores_plus/{dev,devtest}/LANG.jsonl                      FLORES+, Hugging Face openlanguagedata/flores_plus
//   flores_plus/dev/dev.LANG, flores_plus/devtest/devtest.LANG   FLORES+, zip of github.com/openlanguagedata/flores
//   flores200/dev/LANG.dev, flores200/devtest/LANG.devtest       FLORES-200
#pragma once

#include "data/documents.h"

#include <filesystem>
#include <string>
#include <vector>

namespace ptq {

// Every language that has a file in one of the layouts, sorted: "eng_Latn", ...
std::vector<std::string> flores_languages(const std::filesystem::path& data);

// dev, then devtest (one of them if there is no other), from the first layout above that has the language. Exit 66
// with near names if none has it, 65 with the way out if it is there as Parquet only.
std::vector<CorpusFile> flores_files(const std::filesystem::path& data, const std::string& language);

}  // namespace ptq

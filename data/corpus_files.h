// A directory as a corpus.
#pragma once

#include "data/documents.h"

#include <filesystem>
#include <string>
#include <vector>

namespace ptq {

// Every *.txt and *.jsonl file anywhere below `directory`, in the order of their paths as bytes, labelled
// "`name`/path below it" (or the path alone if `name` is empty). Links to directories are not followed. Exit 74 if a
// directory cannot be read.
std::vector<CorpusFile> corpus_files_below(const std::filesystem::path& directory, const std::string& name);

}  // namespace ptq

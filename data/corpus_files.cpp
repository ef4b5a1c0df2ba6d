#include "data/corpus_files.h"

#include "host/error.h"

#include <algorithm>

namespace ptq {

namespace fs = std::filesystem;

std::vector<CorpusFile> corpus_files_below(const fs::path& directory, const std::string& name) {
  std::vector<CorpusFile> files;
  std::error_code failed;
  fs::recursive_directory_iterator entry(directory, failed);
  for (; !failed && entry != fs::recursive_directory_iterator(); entry.increment(failed)) {
    std::error_code not_a_file;
    const std::string extension = entry->path().extension().string();
    if ((extension != ".txt" && extension != ".jsonl") || !entry->is_regular_file(not_a_file)) continue;
    const std::string below = entry->path().lexically_relative(directory).generic_string();
    files.push_back({entry->path(), name.empty() ? below : name + "/" + below, format_of(entry->path())});
  }
  require(!failed, Exit::io, "cannot read the directory {}: {}", directory.string(), failed.message());
  std::sort(files.begin(), files.end(), [](const CorpusFile& a, const CorpusFile& b) { return a.label < b.label; });
  return files;
}

}  // namespace ptq

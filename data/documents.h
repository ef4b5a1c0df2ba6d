// Documents of a corpus: in order for packing from the start, by number for drawing at random. Files are read as
// needed; of a corpus larger than memory only an index of where documents lie is kept.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace ptq {

enum class FileFormat : std::uint8_t {
  text,   // the file is one document, bytes as they are
  lines,  // every line that is not blank is one
  jsonl,  // JSON Lines: the member "text" of every line that is not blank
};

struct CorpusFile {
  std::filesystem::path path;
  std::string label;  // its name in manifests
  FileFormat format = FileFormat::text;
};

// A document and the number of the file that it is from. False stops.
using DocumentVisitor = std::function<bool(std::string_view text, std::size_t file)>;

class Documents {
 public:
  virtual ~Documents() = default;

  // In order, empty ones included.
  virtual void each(const DocumentVisitor& visit) const = 0;
  virtual std::int64_t count() const = 0;
  virtual std::string at(std::int64_t index) const = 0;  // 0 <= index < count()
};

// Exit 66, 65 and 74 of reading the files, when they are read; messages name file and line.
std::unique_ptr<Documents> documents_of(std::vector<CorpusFile> files);

// Texts that were rendered from all `files` files of a corpus.
std::unique_ptr<Documents> documents_of(std::vector<std::string> texts, std::size_t files);

// The format that a user's file has by its name. Exit 65, saying how to convert it, for one that is not text.
FileFormat format_of(const std::filesystem::path& file);

}  // namespace ptq

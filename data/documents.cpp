#include "data/documents.h"

#include "data/corpora.h"
#include "data/jsonl.h"
#include "data/line_reader.h"
#include "data/python_text.h"
#include "host/error.h"

#include <nlohmann/json.hpp>

#include <array>

namespace ptq {

namespace {

class FileDocuments final : public Documents {
 public:
  explicit FileDocuments(std::vector<CorpusFile> files) : files_(std::move(files)) {}

  void each(const DocumentVisitor& visit) const override {
    for (std::size_t f = 0; f < files_.size(); ++f) {
      if (files_[f].format == FileFormat::text) {
        if (!visit(read_text(files_[f].path).text, f)) return;
        continue;
      }
      LineReader lines(files_[f].path, "corpus");
      for (std::string_view line; lines.next(line);) {
        if (python_strip(line).empty()) continue;
        if (!visit(content(f, line, lines.number()), f)) return;
      }
    }
  }

  std::int64_t count() const override { return static_cast<std::int64_t>(index().size()); }

  std::string at(std::int64_t i) const override {
    const Place& place = index().at(static_cast<std::size_t>(i));
    const CorpusFile& file = files_[place.file];
    if (file.format == FileFormat::text) return read_text(file.path).text;
    return content(place.file, InputFile(file.path, "corpus").read(place.offset, place.bytes), place.line);
  }

 private:
  struct Place {
    std::uint32_t file;
    std::int64_t line;
    std::uint64_t offset, bytes;
  };

  std::string content(std::size_t f, std::string_view line, std::int64_t number) const {
    if (files_[f].format == FileFormat::lines) {
      if (line.ends_with('\r')) line.remove_suffix(1);
      return std::string(line);
    }
    const std::string origin = fmt::format("{} line {}", files_[f].path.string(), number);
    return string_member(parse_record(line, origin), "text", origin);
  }

  const std::vector<Place>& index() const {
    if (!index_.empty()) return index_;
    for (std::uint32_t f = 0; f < files_.size(); ++f) {
      if (files_[f].format == FileFormat::text) {
        index_.push_back({f, 1, 0, 0});
        continue;
      }
      LineReader lines(files_[f].path, "corpus");
      for (std::string_view line; lines.next(line);)
        if (!python_strip(line).empty()) index_.push_back({f, lines.number(), lines.offset(), line.size()});
    }
    return index_;
  }

  std::vector<CorpusFile> files_;
  mutable std::vector<Place> index_;  // made when a document is first asked for by number
};

class RenderedDocuments final : public Documents {
 public:
  RenderedDocuments(std::vector<std::string> texts, std::size_t files) : texts_(std::move(texts)), files_(files) {}

  void each(const DocumentVisitor& visit) const override {
    for (const std::string& text : texts_)
      if (!visit(text, files_ - 1)) return;
  }
  std::int64_t count() const override { return static_cast<std::int64_t>(texts_.size()); }
  std::string at(std::int64_t i) const override { return texts_.at(static_cast<std::size_t>(i)); }

 private:
  std::vector<std::string> texts_;
  std::size_t files_;
};

struct Foreign {
  const char* extension;
  const char* remedy;
};

constexpr const char* parquet_remedy =
    "convert it: python3 -c \"import pandas; pandas.read_parquet('IN').to_json('OUT.jsonl', orient='records', "
    "lines=True, force_ascii=False)\"";

constexpr std::array foreign_formats{
    Foreign{".parquet", parquet_remedy},
    Foreign{".arrow", "write its \"text\" column as JSON Lines"},
    Foreign{".gz", "unpack it with gunzip"},
    Foreign{".zst", "unpack it with unzstd"},
    Foreign{".zip", "unpack it"},
    Foreign{".xz", "unpack it with unxz"},
};

}  // namespace

std::unique_ptr<Documents> documents_of(std::vector<CorpusFile> files) {
  return std::make_unique<FileDocuments>(std::move(files));
}

std::unique_ptr<Documents> documents_of(std::vector<std::string> texts, std::size_t files) {
  return std::make_unique<RenderedDocuments>(std::move(texts), files);
}

FileFormat format_of(const std::filesystem::path& file) {
  const std::string extension = file.extension().string();
  for (const Foreign& format : foreign_formats)
    require(extension != format.extension, Exit::data, "{}: text or JSON Lines is needed; {}", file.string(),
            format.remedy);
  return extension == ".jsonl" || extension == ".json" ? FileFormat::jsonl : FileFormat::text;
}

}  // namespace ptq

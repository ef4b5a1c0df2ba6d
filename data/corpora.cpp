#include "data/corpora.h"

#include "data/jsonl.h"
#include "data/python_text.h"
#include "host/error.h"
#include "host/files.h"
#include "host/printable.h"

#include <nlohmann/json.hpp>

namespace ptq {

namespace fs = std::filesystem;

namespace {

bool present(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

std::string wikitext_file(std::string_view split) { return fmt::format("wikitext2/wiki.{}.raw", split); }

// The published file writes a blank row as " \n"; the rows themselves are "" or end in "\n".
std::string join_wikitext_rows(std::string_view raw) {
  std::string joined;
  joined.reserve(raw.size() + raw.size() / 64);
  bool first = true;
  while (!raw.empty()) {
    const std::string_view line = raw.substr(0, raw.find('\n'));
    raw.remove_prefix(std::min(raw.size(), line.size() + 1));
    if (!first) joined += "\n\n";
    first = false;
    if (!python_strip(line).empty()) joined.append(line).push_back('\n');
  }
  return joined;
}

Corpus wikitext_corpus(const fs::path& data) {
  Corpus corpus{.name = "wikitext2", .format = CorpusFormat::wikitext};
  corpus.label = wikitext_file("train");
  if (!present(data / corpus.label)) {
    corpus.label = wikitext_file("test");
    corpus.note =
        "wikitext2/wiki.train.raw is not there: calibrating on the test split, which perplexity is measured on";
  }
  corpus.file = data_file(data, corpus.label);
  return corpus;
}

// The reference draws from a whole shard; its first thousand documents are enough for everything else.
Corpus c4_corpus(const fs::path& data) {
  Corpus corpus{.name = "c4", .format = CorpusFormat::jsonl};
  corpus.label = "c4/c4-train.00000-of-01024.json";
  if (!present(data / corpus.label)) corpus.label = "c4_sample/c4_sample.jsonl";
  corpus.file = data_file(data, corpus.label);
  return corpus;
}

}  // namespace

fs::path data_file(const fs::path& data, const std::string& relative) {
  require(!data.empty(), Exit::missing,
          "{} is needed but no data directory is set: give --data DIR or PTQ_DATA (data/prepare.py fills one)",
          relative);
  fs::path file = data / relative;
  require(present(file), Exit::missing, "{} not found: `python3 data/prepare.py {}` downloads it", file.string(),
          data.string());
  return file;
}

SourceFile describe(const fs::path& file, std::string name) {
  std::error_code failed;
  const auto bytes = fs::file_size(file, failed);
  require(!failed, Exit::io, "cannot read the size of {}: {}", file.string(), failed.message());
  return {std::move(name), bytes, sha256_file(file)};
}

Text read_wikitext2(const fs::path& data, std::string_view split) {
  const std::string relative = wikitext_file(split);
  const std::string raw = read_file(data_file(data, relative), "WikiText-2");
  return {join_wikitext_rows(raw), {relative, raw.size(), sha256_hex(raw)}};
}

Text read_text(const fs::path& file) {
  Text text;
  text.text = read_file(file, "text file");
  require(!text.text.empty(), Exit::data, "{} is empty", file.string());
  text.source = {file.filename().string(), text.text.size(), sha256_hex(text.text)};
  return text;
}

Corpus find_corpus(const std::string& set, const fs::path& data) {
  if (set == "wikitext2") return wikitext_corpus(data);
  if (set == "c4") return c4_corpus(data);
  require(present(set), Exit::missing,
          "'{}' is neither a calibration set (wikitext2, c4, nonsense, ids:FILE) nor a text or JSONL file",
          printable(set));
  const fs::path file(set);
  const std::string extension = file.extension().string();
  const bool json = extension == ".jsonl" || extension == ".json";
  return {.name = file.filename().string(),
          .format = json ? CorpusFormat::jsonl : CorpusFormat::text,
          .file = file,
          .label = file.filename().string()};
}

void for_each_document(const Corpus& corpus, const std::function<bool(std::string_view)>& visit) {
  switch (corpus.format) {
    case CorpusFormat::text:
      visit(read_text(corpus.file).text);
      break;
    case CorpusFormat::wikitext:
      visit(join_wikitext_rows(read_file(corpus.file, "WikiText-2")));
      break;
    case CorpusFormat::jsonl:
      for_each_record(corpus.file, "corpus", [&](const nlohmann::json& record, const std::string& origin) {
        return visit(string_member(record, "text", origin));
      });
      break;
  }
}

}  // namespace ptq

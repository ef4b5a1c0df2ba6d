#include "data/corpora.h"

#include "data/python_text.h"
#include "host/error.h"
#include "host/files.h"

namespace ptq {

namespace fs = std::filesystem;

namespace {

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

}  // namespace

bool present(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

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

}  // namespace ptq

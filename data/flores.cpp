#include "data/flores.h"

#include "data/corpora.h"
#include "data/near_names.h"
#include "host/error.h"
#include "host/printable.h"

#include <array>
#include <map>

namespace ptq {

namespace fs = std::filesystem;

namespace {

enum class Encoding : std::uint8_t { lines, jsonl, parquet };

// A split's file is directory/split/ + (split. if prefixed) + LANG + (.split or extension).
struct Layout {
  const char* directory;
  bool prefixed;
  const char* extension;  // null: the split's name
  Encoding encoding;
};

constexpr std::array layouts{
    Layout{"flores_plus", false, ".jsonl", Encoding::jsonl},
    Layout{"flores_plus", true, "", Encoding::lines},
    Layout{"flores200", false, nullptr, Encoding::lines},
    Layout{"flores_plus", false, ".parquet", Encoding::parquet},
};
constexpr std::array<const char*, 2> splits{"dev", "devtest"};

struct Language {
  const Layout* layout = nullptr;
  std::vector<CorpusFile> files;
};

// The language in a file's name, or nothing.
std::string language_in(std::string_view name, const Layout& layout, const std::string& split) {
  const std::string prefix = layout.prefixed ? split + "." : std::string();
  const std::string suffix = layout.extension ? std::string(layout.extension) : "." + split;
  if (!name.starts_with(prefix)) return {};
  name.remove_prefix(prefix.size());
  if (!name.ends_with(suffix)) return {};
  name.remove_suffix(suffix.size());
  return std::string(name.find('.') == std::string_view::npos ? name : std::string_view());
}

std::map<std::string, Language> find_languages(const fs::path& data) {
  std::map<std::string, Language> languages;
  for (const Layout& layout : layouts) {
    for (const std::string split : splits) {
      const fs::path directory = data / layout.directory / split;
      std::error_code failed;
      for (fs::directory_iterator entry(directory, failed), end; !failed && entry != end; entry.increment(failed)) {
        const std::string file = entry->path().filename().string();
        const std::string name = language_in(file, layout, split);
        if (name.empty()) continue;
        Language& language = languages[name];
        if (!language.layout) language.layout = &layout;
        if (language.layout != &layout) continue;
        language.files.push_back({entry->path(), fmt::format("{}/{}/{}", layout.directory, split, file),
                                  layout.encoding == Encoding::jsonl ? FileFormat::jsonl : FileFormat::lines});
      }
    }
  }
  return languages;
}

}  // namespace

std::vector<std::string> flores_languages(const fs::path& data) {
  std::vector<std::string> names;
  if (data.empty()) return names;
  for (const auto& [name, language] : find_languages(data)) names.push_back(name);
  return names;
}

std::vector<CorpusFile> flores_files(const fs::path& data, const std::string& language) {
  require(!data.empty(), Exit::missing,
          "flores:{} is needed but no data directory is set: give --data DIR or PTQ_DATA (data/prepare.py fills one)",
          printable(language));
  auto languages = find_languages(data);
  require(!languages.empty(), Exit::missing,
          "no FLORES language below {} (flores_plus/ or flores200/): `python3 data/prepare.py {} flores200` downloads "
          "it",
          data.string(), data.string());
  const auto found = languages.find(language);
  if (found == languages.end()) {
    const std::vector<std::string> names = flores_languages(data);
    fail(Exit::missing,
         "no language '{}' among the {} of FLORES below {}; near names: {}; `ptq calibration flores "
         "--list` prints all",
         printable(language), names.size(), data.string(), fmt::join(near_names(language, names), ", "));
  }
  for (const CorpusFile& file : found->second.files) format_of(file.path);  // refuses Parquet
  return std::move(found->second.files);
}

}  // namespace ptq

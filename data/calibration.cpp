#include "data/calibration.h"

#include "data/ids.h"
#include "data/python_random.h"
#include "host/error.h"
#include "host/files.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <span>

namespace ptq {

namespace {

using Ids = std::vector<std::int32_t>;

constexpr std::string_view ids_scheme = "ids:";
constexpr std::string_view separator = "\n\n";

Ids with_prefix(const Tokenizer& tokenizer, std::string_view text) {
  Ids ids = tokenizer.prefix();
  const Ids content = tokenizer.encode(text);
  ids.insert(ids.end(), content.begin(), content.end());
  return ids;
}

std::int64_t length(const Ids& ids) { return static_cast<std::int64_t>(ids.size()); }

void require_window(std::int64_t found, const CalibrationRequest& request) {
  require(found >= request.seqlen, Exit::data,
          "calibration set '{}' has {} tokens, fewer than one window of {}; use a longer text or a shorter --seqlen",
          request.set, found, request.seqlen);
}

void cut_windows(CalibrationSet& set, const Ids& ids, const CalibrationRequest& request) {
  require_window(length(ids), request);
  const std::int64_t count = std::min(request.samples, length(ids) / request.seqlen);
  for (std::int64_t w = 0; w < count; ++w) {
    const auto begin = ids.begin() + w * request.seqlen;
    set.windows.emplace_back(begin, begin + request.seqlen);
  }
}

// Takes documents until their ids suffice. Adding up the ids of documents and separators only estimates the joined
// text's, so the joined text decides and more documents follow while it is short.
void pack_consecutive(CalibrationSet& set, const Corpus& corpus, const Tokenizer& tokenizer,
                      const CalibrationRequest& request, std::int64_t needed) {
  const std::int64_t separator_tokens = length(tokenizer.encode(separator));
  std::string text;
  Ids ids;  // of the joined text, while they are up to date
  std::int64_t estimate = length(tokenizer.prefix());
  for_each_document(corpus, [&](std::string_view document) {
    if (document.empty()) return true;
    if (set.manifest.documents++ > 0) {
      text += separator;
      estimate += separator_tokens;
    }
    text += document;
    ids.clear();
    if (corpus.format != CorpusFormat::jsonl) return true;  // a single document, all of it taken
    estimate += length(tokenizer.encode(document));
    if (estimate < needed) return true;
    ids = with_prefix(tokenizer, text);
    estimate = length(ids);
    return estimate < needed;
  });
  if (ids.empty()) ids = with_prefix(tokenizer, text);
  set.manifest.text_sha256 = sha256_hex(text);
  cut_windows(set, ids, request);
}

// One document as the reference sees it; kept, since a short one may be drawn many times.
class DrawnDocuments {
 public:
  DrawnDocuments(const Corpus& corpus, const Tokenizer& tokenizer) : tokenizer_(tokenizer) {
    for_each_document(corpus, [&](std::string_view text) {
      texts_.emplace_back(text);
      return true;
    });
  }

  std::int64_t count() const { return static_cast<std::int64_t>(texts_.size()); }

  const Ids& at(std::int64_t index) {
    const auto [entry, fresh] = ids_.try_emplace(index);
    if (fresh) entry->second = with_prefix(tokenizer_, texts_[static_cast<std::size_t>(index)]);
    return entry->second;
  }

 private:
  const Tokenizer& tokenizer_;
  std::vector<std::string> texts_;
  std::map<std::int64_t, Ids> ids_;
};

// Where the reference accepts a document of exactly seqlen tokens it then fails on an empty range, so longer ones only.
void draw_windows(CalibrationSet& set, const Corpus& corpus, const Tokenizer& tokenizer,
                  const CalibrationRequest& request) {
  DrawnDocuments documents(corpus, tokenizer);
  require(documents.count() > 0, Exit::data, "calibration set '{}' is empty", request.set);
  PythonRandom random(request.seed);
  std::set<std::int64_t> used, too_short;
  std::int64_t longest = 0;
  while (static_cast<std::int64_t>(set.windows.size()) < request.samples) {
    // A corpus of one text is not drawn from: the reference only draws windows of WikiText-2.
    const std::int64_t index = corpus.format == CorpusFormat::jsonl ? random.randint(0, documents.count() - 1) : 0;
    const Ids& ids = documents.at(index);
    longest = std::max(longest, length(ids));
    if (length(ids) <= request.seqlen) {
      too_short.insert(index);
      require(static_cast<std::int64_t>(too_short.size()) < documents.count(), Exit::data,
              "calibration set '{}' has no document longer than {} tokens (longest: {}); use a shorter --seqlen or "
              "--sampling consecutive",
              request.set, request.seqlen, longest);
      continue;
    }
    used.insert(index);
    const auto begin = ids.begin() + random.randint(0, length(ids) - request.seqlen - 1);
    set.windows.emplace_back(begin, begin + request.seqlen);
  }
  set.manifest.documents = static_cast<std::int64_t>(used.size());
}

void take_corpus(CalibrationSet& set, const Tokenizer& tokenizer, const CalibrationRequest& request,
                 std::int64_t needed) {
  const Corpus corpus = find_corpus(request.set, request.data);
  CalibrationManifest& m = set.manifest;
  m.set = corpus.name;
  m.sources.push_back(describe(corpus.file, corpus.label));
  m.prefix = tokenizer.prefix();
  if (!corpus.note.empty()) m.notes.push_back(corpus.note);
  if (request.sampling == Sampling::gptq) {
    m.packing = "random windows of random documents, drawn as the GPTQ reference does";
    m.seeded = true;
    draw_windows(set, corpus, tokenizer, request);
  } else {
    m.packing = "documents joined by two newlines, consecutive windows";
    pack_consecutive(set, corpus, tokenizer, request, needed);
  }
}

// As many characters as needed tokens, doubled until the tokenizer yields enough of them.
void take_nonsense(CalibrationSet& set, const Tokenizer& tokenizer, const CalibrationRequest& request,
                   std::int64_t needed) {
  constexpr std::int64_t most_characters = std::int64_t{1} << 30;
  CalibrationManifest& m = set.manifest;
  Ids ids;
  for (std::int64_t characters = needed; length(ids) < needed; characters *= 2) {
    require(characters <= most_characters, Exit::usage,
            "{} windows of {} tokens need more than {} characters of nonsense; use fewer --samples", request.samples,
            request.seqlen, most_characters);
    set.text = nonsense_text(request.seed, characters);
    ids = with_prefix(tokenizer, set.text);
  }
  m.set = "nonsense";
  m.packing = "uniform ASCII punctuation and white space, consecutive windows";
  m.documents = 1;
  m.text_sha256 = sha256_hex(set.text);
  m.prefix = tokenizer.prefix();
  m.seeded = true;
  cut_windows(set, ids, request);
}

void take_ids(CalibrationSet& set, const std::filesystem::path& file) {
  set.windows = read_id_lines(file);
  set.manifest.set = std::string(ids_scheme) + file.filename().string();
  set.manifest.sources.push_back(describe(file, file.filename().string()));
  set.manifest.packing = "one window a line, as given";
}

void count_tokens(CalibrationSet& set) {
  CalibrationManifest& m = set.manifest;
  Ids all;
  for (const Ids& window : set.windows) {
    all.insert(all.end(), window.begin(), window.end());
    m.seqlen = std::max(m.seqlen, length(window));
  }
  m.windows = static_cast<std::int64_t>(set.windows.size());
  m.tokens = length(all);
  m.ids_sha256 = ids_sha256(all);
  m.unique_tokens = static_cast<std::int64_t>(std::set<std::int32_t>(all.begin(), all.end()).size());
}

}  // namespace

bool needs_tokenizer(const std::string& set) { return !set.starts_with(ids_scheme); }

CalibrationSet build_calibration(const CalibrationRequest& request, const Tokenizer* tokenizer) {
  CalibrationSet set;
  set.manifest.seed = request.seed;
  if (!needs_tokenizer(request.set)) {
    take_ids(set, request.set.substr(ids_scheme.size()));
  } else {
    constexpr std::int64_t most = std::int64_t{1} << 30;
    require(request.samples >= 1 && request.samples <= most, Exit::usage, "--samples must be 1 to {}, not {}", most,
            request.samples);
    require(request.seqlen >= 1 && request.seqlen <= most, Exit::usage, "--seqlen must be 1 to {}, not {}", most,
            request.seqlen);
    check(tokenizer != nullptr, "calibration set '{}' needs a tokenizer", request.set);
    set.manifest.samples = request.samples;
    const std::int64_t needed = request.samples * request.seqlen;  // < 2^61
    if (request.set == "nonsense")
      take_nonsense(set, *tokenizer, request, needed);
    else
      take_corpus(set, *tokenizer, request, needed);
  }
  count_tokens(set);
  return set;
}

std::string nonsense_text(std::uint64_t seed, std::int64_t length) {
  constexpr std::string_view alphabet = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ \t\n\r\x0b\x0c";
  PythonRandom random(seed);
  std::string text(static_cast<std::size_t>(length), ' ');
  for (char& c : text) c = alphabet[static_cast<std::size_t>(random.randint(0, alphabet.size() - 1))];
  return text;
}

nlohmann::json manifest_json(const CalibrationManifest& m) {
  nlohmann::json sources = nlohmann::json::array();
  for (const SourceFile& s : m.sources) sources.push_back({{"file", s.name}, {"bytes", s.bytes}, {"sha256", s.sha256}});
  nlohmann::json json = {{"set", m.set},
                         {"sources", std::move(sources)},
                         {"packing", m.packing},
                         {"windows", m.windows},
                         {"seqlen", m.seqlen},
                         {"tokens", m.tokens},
                         {"unique_tokens", m.unique_tokens},
                         {"ids_sha256", m.ids_sha256}};
  if (m.samples > 0) {
    json["samples"] = m.samples;
    json["documents"] = m.documents;
    json["bos"] = {{"rule", "the tokenizer's own prefix, once before each tokenized text"}, {"ids", m.prefix}};
  }
  if (!m.text_sha256.empty()) json["text_sha256"] = m.text_sha256;
  if (m.seeded) json["seed"] = m.seed;
  if (!m.notes.empty()) json["notes"] = m.notes;
  return json;
}

}  // namespace ptq

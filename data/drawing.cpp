#include "data/drawing.h"

#include "data/python_random.h"
#include "host/error.h"
#include "host/files.h"

#include <algorithm>
#include <map>
#include <set>

namespace ptq {

namespace {

using Ids = std::vector<std::int32_t>;

std::int64_t length(const Ids& ids) { return static_cast<std::int64_t>(ids.size()); }

// A document's ids are kept, since one of few may be drawn many times, but not those of more documents than memory
// holds.
class DrawnDocuments {
 public:
  DrawnDocuments(const Documents& documents, const Tokenizer& tokenizer)
      : documents_(documents), tokenizer_(tokenizer), count_(documents.count()) {}

  std::int64_t count() const { return count_; }

  const Ids& at(std::int64_t index) {
    if (const auto known = ids_.find(index); known != ids_.end()) return known->second;
    if (tokens_ > most_tokens) {
      ids_.clear();
      tokens_ = 0;
    }
    const Ids& ids = ids_.emplace(index, with_prefix(tokenizer_, documents_.at(index))).first->second;
    tokens_ += length(ids);
    return ids;
  }

 private:
  static constexpr std::int64_t most_tokens = std::int64_t{1} << 24;
  const Documents& documents_;
  const Tokenizer& tokenizer_;
  std::int64_t count_, tokens_ = 0;
  std::map<std::int64_t, Ids> ids_;
};

std::string joined(const Corpus& corpus) {
  std::string text;
  corpus.documents->each([&](std::string_view document, std::size_t) {
    if (!document.empty()) text.append(text.empty() ? "" : corpus.separator).append(document);
    return true;
  });
  return text;
}

// Where the reference accepts a document of exactly seqlen tokens it then fails on an empty range, so longer ones only.
std::int64_t windows_of(const Ids& ids, const WindowRule& rule) { return length(ids) - rule.seqlen; }

void draw_one(CalibrationSet& set, const Ids& ids, const WindowRule& rule, PythonRandom& random) {
  const auto begin = ids.begin() + random.randint(0, windows_of(ids, rule) - 1);
  set.windows.emplace_back(begin, begin + rule.seqlen);
}

void draw_of_text(CalibrationSet& set, const Corpus& corpus, const Tokenizer& tokenizer, const WindowRule& rule) {
  const std::string text = joined(corpus);
  const Ids ids = with_prefix(tokenizer, text);
  require(windows_of(ids, rule) > 0, Exit::data,
          "calibration set '{}' has {} tokens, too few to draw windows of {} from; use a longer text or a shorter "
          "--seqlen",
          corpus.name, ids.size(), rule.seqlen);
  PythonRandom random(rule.seed);
  for (std::int64_t w = 0; w < rule.samples; ++w) draw_one(set, ids, rule, random);
  set.manifest.documents = corpus.documents->count();
  set.manifest.text_sha256 = sha256_hex(text);
}

}  // namespace

void draw_windows(CalibrationSet& set, const Corpus& corpus, const Tokenizer& tokenizer, const WindowRule& rule) {
  if (corpus.one_text) return draw_of_text(set, corpus, tokenizer, rule);
  DrawnDocuments documents(*corpus.documents, tokenizer);
  require(documents.count() > 0, Exit::data, "calibration set '{}' is empty", corpus.name);
  PythonRandom random(rule.seed);
  std::set<std::int64_t> used, too_short;
  std::int64_t longest = 0;
  while (static_cast<std::int64_t>(set.windows.size()) < rule.samples) {
    const std::int64_t index = random.randint(0, documents.count() - 1);
    if (too_short.contains(index)) continue;
    const Ids& ids = documents.at(index);
    longest = std::max(longest, length(ids));
    if (windows_of(ids, rule) > 0) {
      used.insert(index);
      draw_one(set, ids, rule, random);
      continue;
    }
    too_short.insert(index);
    require(static_cast<std::int64_t>(too_short.size()) < documents.count(), Exit::data,
            "calibration set '{}' has no document longer than {} tokens (longest: {}); use a shorter --seqlen or "
            "--sampling consecutive",
            corpus.name, rule.seqlen, longest);
  }
  set.manifest.documents = static_cast<std::int64_t>(used.size());
}

}  // namespace ptq

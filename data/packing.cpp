#include "data/packing.h"

#include "data/drawing.h"
#include "data/numpy_random.h"
#include "data/python_text.h"
#include "host/error.h"
#include "host/files.h"

#include <algorithm>

namespace ptq {

namespace {

using Ids = std::vector<std::int32_t>;

std::int64_t length(const Ids& ids) { return static_cast<std::int64_t>(ids.size()); }

void describe_files(CalibrationManifest& m, const Corpus& corpus, std::size_t count) {
  for (std::size_t f = 0; f < std::min(count, corpus.files.size()); ++f)
    m.sources.push_back(describe(corpus.files[f].path, corpus.files[f].label));
}

// Sentences hold no newline and are separated by one, so the windows' text tells how many they reach.
std::int64_t sentences_in(const std::vector<Ids>& windows, const Tokenizer& tokenizer) {
  Ids ids;
  for (const Ids& window : windows) ids.insert(ids.end(), window.begin(), window.end());
  const std::string text = tokenizer.decode(ids);
  return std::count(text.begin(), text.end(), '\n') + (text.ends_with('\n') ? 0 : 1);
}

// Takes documents until their ids suffice. Adding up the ids of documents and separators only estimates the joined
// text's, so the joined text decides and more documents follow while it is short.
void pack_consecutive(CalibrationSet& set, const Corpus& corpus, const Tokenizer& tokenizer, const WindowRule& rule) {
  CalibrationManifest& m = set.manifest;
  const std::int64_t separator_tokens = length(tokenizer.encode(corpus.separator));
  std::string text;
  Ids ids;  // of the joined text, while they are up to date
  std::int64_t estimate = length(tokenizer.prefix());
  std::size_t files = 0;
  corpus.documents->each([&](std::string_view document, std::size_t file) {
    files = file + 1;
    if (document.empty()) return true;
    if (m.documents++ > 0) {
      text += corpus.separator;
      estimate += separator_tokens;
    }
    text += document;
    ids.clear();
    estimate += length(tokenizer.encode(document));
    if (estimate < rule.tokens()) return true;
    ids = with_prefix(tokenizer, text);
    estimate = length(ids);
    return estimate < rule.tokens();
  });
  if (ids.empty()) ids = with_prefix(tokenizer, text);
  m.packing = corpus.separator == "\n" ? "sentences, one a line, consecutive windows"
                                       : "documents joined by two newlines, consecutive windows";
  m.text_sha256 = sha256_hex(text);
  describe_files(m, corpus, std::max<std::size_t>(files, 1));
  if (files < corpus.files.size() && !corpus.counts_sentences)
    m.notes.push_back(fmt::format("{}: the first {} of {} files sufficed; --sampling gptq draws from all of them",
                                  m.set, files, corpus.files.size()));
  cut_windows(set, ids, rule);
  if (corpus.counts_sentences) m.sentences = sentences_in(set.windows, tokenizer);
}

// Block rule of AWQ: of shuffled documents, stripped, the first `samples` that are not longer than a window, each with
// its own prefix, in one sequence that is cut without the rest.
void pack_awq(CalibrationSet& set, const Corpus& corpus, const Tokenizer& tokenizer, const WindowRule& rule) {
  CalibrationManifest& m = set.manifest;
  m.packing = fmt::format(
      "documents in the order of Dataset.shuffle(seed={}), stripped, those longer than a window left out, joined "
      "as ids, consecutive windows",
      awq_seed + rule.seed);
  m.seeded = true;
  describe_files(m, corpus, corpus.files.size());
  const std::int64_t count = corpus.documents->count();
  Ids ids;
  std::int64_t longer = 0;
  for (const std::int64_t index : numpy_permutation(awq_seed + rule.seed, count)) {
    if (m.documents == rule.samples) break;
    const std::string document = corpus.documents->at(index);
    const Ids content = with_prefix(tokenizer, python_strip(document));
    if (content.empty() || length(content) > rule.seqlen) {
      longer += !content.empty();
      continue;
    }
    ids.insert(ids.end(), content.begin(), content.end());
    ++m.documents;
  }
  require(
      length(ids) >= rule.seqlen, Exit::data,
      "calibration set '{}' has {} documents of at most {} tokens ({} are longer) with {} tokens in all, fewer than "
      "one window; use --sampling consecutive or more --samples",
      m.set, m.documents, rule.seqlen, longer, ids.size());
  cut_windows(set, ids, rule);
}

}  // namespace

std::vector<std::int32_t> with_prefix(const Tokenizer& tokenizer, std::string_view text) {
  Ids ids = tokenizer.prefix();
  const Ids content = tokenizer.encode(text);
  ids.insert(ids.end(), content.begin(), content.end());
  return ids;
}

void cut_windows(CalibrationSet& set, const Ids& ids, const WindowRule& rule) {
  require(length(ids) >= rule.seqlen, Exit::data,
          "calibration set '{}' has {} tokens, fewer than one window of {}; use a longer text or a shorter --seqlen",
          set.manifest.set, ids.size(), rule.seqlen);
  const std::int64_t count = std::min(rule.samples, length(ids) / rule.seqlen);
  for (std::int64_t w = 0; w < count; ++w) {
    const auto begin = ids.begin() + w * rule.seqlen;
    set.windows.emplace_back(begin, begin + rule.seqlen);
  }
}

CalibrationSet pack(const Corpus& corpus, const Tokenizer& tokenizer, const WindowRule& rule) {
  CalibrationSet set;
  CalibrationManifest& m = set.manifest;
  m.set = corpus.name;
  m.format = corpus.format;
  m.prefix = tokenizer.prefix();
  if (!corpus.note.empty()) m.notes.push_back(corpus.note);
  if (rule.sampling == Sampling::gptq) {
    m.packing = "random windows of random documents, drawn as the GPTQ reference does";
    m.seeded = true;
    describe_files(m, corpus, corpus.files.size());
    draw_windows(set, corpus, tokenizer, rule);
  } else if (rule.sampling == Sampling::awq) {
    pack_awq(set, corpus, tokenizer, rule);
  } else {
    pack_consecutive(set, corpus, tokenizer, rule);
  }
  return set;
}

}  // namespace ptq

#include "data/calibration_sets.h"

#include "data/corpora.h"
#include "data/corpus_files.h"
#include "data/flores.h"
#include "data/questions.h"
#include "host/error.h"
#include "host/printable.h"

#include <algorithm>
#include <array>

namespace ptq {

namespace fs = std::filesystem;

namespace {

struct Opening {
  std::string argument;  // after the colon
  fs::path data;
  std::string format;
};

Corpus of_files(std::string name, std::vector<CorpusFile> files) {
  Corpus corpus{.name = std::move(name), .files = std::move(files)};
  corpus.documents = documents_of(corpus.files);
  return corpus;
}

Corpus of_questions(std::string name, const std::string& task, const Opening& o) {
  Corpus corpus{.name = std::move(name), .one_text = true};
  corpus.format = o.format.empty() ? question_formats().front() : o.format;
  QuestionTexts texts = question_texts(task, o.data, corpus.format);
  corpus.documents = documents_of(std::move(texts.texts), texts.files.size());
  corpus.files = std::move(texts.files);
  return corpus;
}

std::vector<std::string> those_present(const fs::path& data, std::vector<std::string> files) {
  std::erase_if(files, [&](const std::string& file) { return data.empty() || !present(data / file); });
  return files;
}

// Of the published sample, togethercomputer/RedPajama-Data-1T-Sample. Papers that calibrate on it draw windows of
// random documents as GPTQ does; its first file alone would be nothing but arXiv.
constexpr std::size_t redpajama_files = 11;

std::vector<CorpusFile> redpajama_sample(const fs::path& data) {
  std::vector<CorpusFile> files;
  if (!data.empty() && present(data / "redpajama")) files = corpus_files_below(data / "redpajama", "redpajama");
  std::erase_if(files, [](const CorpusFile& f) { return f.format != FileFormat::jsonl; });
  return files;
}

Corpus open_redpajama(const Opening& o) {
  std::vector<CorpusFile> files = redpajama_sample(o.data);
  require(!o.data.empty(), Exit::missing, "redpajama needs a data directory: give --data DIR or PTQ_DATA");
  require(!files.empty(), Exit::missing,
          "no *.jsonl in {}: `python3 data/prepare.py {} redpajama` downloads the published sample",
          (o.data / "redpajama").string(), o.data.string());
  Corpus corpus = of_files("redpajama", std::move(files));
  corpus.sampling = Sampling::gptq;
  if (corpus.files.size() != redpajama_files)
    corpus.note = fmt::format("redpajama: {} files of the published sample's {}", corpus.files.size(), redpajama_files);
  return corpus;
}

// The reference draws from a whole shard; its first thousand documents are enough for everything else.
constexpr std::array c4_files{"c4/c4-train.00000-of-01024.json", "c4_sample/c4_sample.jsonl"};

Corpus open_c4(const Opening& o) {
  const bool shard = present(o.data / c4_files[0]);
  const std::string label = c4_files[shard ? 0 : 1];
  return of_files("c4", {{data_file(o.data, label), label, FileFormat::jsonl}});
}

constexpr std::array wikitext_splits{"train", "test"};

Corpus open_wikitext2(const Opening& o) {
  Corpus corpus{.name = "wikitext2", .one_text = true};
  const bool train = present(o.data / "wikitext2/wiki.train.raw");
  Text text = read_wikitext2(o.data, wikitext_splits[train ? 0 : 1]);
  if (!train)
    corpus.note =
        "wikitext2/wiki.train.raw is not there: calibrating on the test split, which perplexity is measured on";
  corpus.files = {{o.data / text.source.name, text.source.name, FileFormat::text}};
  corpus.documents = documents_of(std::vector{std::move(text.text)}, 1);
  return corpus;
}

Corpus open_flores(const Opening& o) {
  Corpus corpus = of_files("flores:" + o.argument, flores_files(o.data, o.argument));
  corpus.separator = "\n";
  corpus.one_text = true;
  corpus.counts_sentences = true;
  corpus.samples = 32;  // the paper's first 32 sequences
  if (corpus.files.size() < 2) corpus.note = fmt::format("flores: only {} is there", corpus.files.front().label);
  return corpus;
}

// What reproduce/miniature/make_data.py writes: NAME.txt, or NAME.jsonl with questions.
std::vector<std::string> miniature_names(const fs::path& data) {
  std::vector<std::string> names;
  if (data.empty() || !present(data / "miniature")) return names;
  for (const CorpusFile& file : corpus_files_below(data / "miniature", "")) names.push_back(file.path.stem().string());
  return names;
}

Corpus open_miniature(const Opening& o) {
  const std::vector<std::string> names = miniature_names(o.data);
  require(!names.empty(), Exit::missing,
          "miniature:{} needs --data DIR with DIR/miniature/*.txt in it; the data directory of ptq's sources has one",
          printable(o.argument));
  require(std::find(names.begin(), names.end(), o.argument) != names.end(), Exit::missing, "no '{}' in {}; there: {}",
          printable(o.argument), (o.data / "miniature").string(), fmt::join(names, ", "));
  const std::string label = "miniature/" + o.argument;
  if (present(o.data / (label + ".txt"))) {
    Corpus corpus =
        of_files("miniature:" + o.argument, {{o.data / (label + ".txt"), label + ".txt", FileFormat::text}});
    corpus.one_text = true;
    return corpus;
  }
  return of_questions("miniature:" + o.argument, (o.data / (label + ".jsonl")).string(), o);
}

struct Row {
  NamedSet set;
  bool questions;
  Corpus (*open)(const Opening&);  // null: generated (calibration.cpp)
};

const std::vector<Row>& rows() {
  static const std::vector<Row> table{
      {{"redpajama", "", "sample of RedPajama-1T: the paper's general text",
        [](const fs::path& data) {
          std::vector<std::string> labels;
          for (const CorpusFile& file : redpajama_sample(data)) labels.push_back(file.label);
          return labels;
        }},
       false,
       open_redpajama},
      {{"c4", "", "web text, GPTQ's own set",
        [](const fs::path& data) {
          return those_present(data, {c4_files.begin(), c4_files.end()});
        }},
       false,
       open_c4},
      {{"wikitext2", "", "WikiText-2, train split if it is there",
        [](const fs::path& data) {
          return those_present(data, {"wikitext2/wiki.train.raw", "wikitext2/wiki.test.raw"});
        }},
       false,
       open_wikitext2},
      {{"nonsense", "", "uniform ASCII punctuation and white space",
        [](const fs::path&) { return std::vector<std::string>{"generated"}; }},
       false,
       nullptr},
      {{"arc", "", "ARC-Challenge test, questions and answers",
        [](const fs::path& data) { return those_present(data, {"arc_challenge/test.jsonl"}); }},
       true,
       [](const Opening& o) { return of_questions("arc", "arc_challenge", o); }},
      {{"piqa", "", "PIQA validation, questions and answers",
        [](const fs::path& data) {
          return those_present(data, {"piqa/dev.jsonl", "piqa/dev-labels.lst"});
        }},
       true,
       [](const Opening& o) { return of_questions("piqa", "piqa", o); }},
      {{"flores", "LANG", "2009 sentences of a language", flores_languages}, false, open_flores},
      {{"miniature", "NAME", "the tiny models' own text", miniature_names}, true, open_miniature},
  };
  return table;
}

// "flores:eng_Latn" is the row flores; null if no row has this name.
const Row* find_row(const std::string& set) {
  for (const Row& row : rows())
    if (row.set.argument.empty() ? set == row.set.name : set.starts_with(row.set.name + ":")) return &row;
  return nullptr;
}

std::string notation(const NamedSet& set) { return set.argument.empty() ? set.name : set.name + ":" + set.argument; }

[[noreturn]] void fail_unknown(const std::string& set) {
  std::vector<std::string> notations;
  for (const Row& row : rows()) {
    notations.push_back(notation(row.set));
    require(
        set != row.set.name, Exit::missing,
        "calibration set {} needs a name after a colon, {}; `ptq calibration {} --list` prints those that are there",
        set, notations.back(), set);
  }
  fail(Exit::missing,
       "'{}' is neither a calibration set ({}, ids:FILE, A:0.5+B:0.5) nor a text or JSONL file or a directory of them",
       printable(set), fmt::join(notations, ", "));
}

}  // namespace

const std::vector<NamedSet>& named_sets() {
  static const std::vector<NamedSet> sets = [] {
    std::vector<NamedSet> all;
    for (const Row& row : rows()) all.push_back(row.set);
    return all;
  }();
  return sets;
}

bool is_named_set(const std::string& set) {
  const Row* row = find_row(set);
  return row != nullptr && set.size() != row->set.name.size() + 1;  // "flores:" names no language
}

bool has_questions(const std::string& set) {
  const Row* row = find_row(set);
  return row != nullptr && row->questions;
}

Corpus open_corpus(const std::string& set, const fs::path& data, const std::string& format) {
  const Row* row = find_row(set);
  if (row != nullptr && row->open != nullptr) {
    const std::size_t name = row->set.name.size();
    return row->open({.argument = set.size() > name ? set.substr(name + 1) : "", .data = data, .format = format});
  }
  if (row != nullptr || !present(set)) fail_unknown(set);
  const fs::path path(set);
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) {
    const std::string name = path.filename().string();
    Corpus corpus = of_files(name, {{path, name, format_of(path)}});
    corpus.one_text = corpus.files.front().format == FileFormat::text;
    return corpus;
  }
  const std::string name = (path.has_filename() ? path : path.parent_path()).filename().string();
  Corpus corpus = of_files(name, corpus_files_below(path, name));
  require(!corpus.files.empty(), Exit::data, "{} holds no *.txt or *.jsonl file", path.string());
  return corpus;
}

}  // namespace ptq

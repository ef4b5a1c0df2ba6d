// The named calibration sets: a set is a row in the table of calibration_sets.cpp. Each opens as a Corpus, documents
// with what the set's packing needs to know; packing.h makes windows of it.
#pragma once

#include "data/documents.h"

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace ptq {

enum class Sampling : std::uint8_t {
  automatic,    // the set's own
  consecutive,  // documents joined, cut from the start into windows without overlap
  gptq,         // the GPTQ reference's draws (spec A.8): a random long enough document, then a random window of it
  awq,          // the AWQ reference's blocks (spec B.7): shuffled short documents, joined and cut
};

struct Corpus {
  std::string name;  // as manifests have it
  std::vector<CorpusFile> files = {};
  std::unique_ptr<Documents> documents = nullptr;
  std::string separator = "\n\n";             // between documents that are joined
  bool one_text = false;                      // gptq draws windows of all documents joined, not of single ones
  bool counts_sentences = false;              // a document is one sentence without a newline; separator is "\n"
  std::int64_t samples = 128;                 // windows, unless the user says
  Sampling sampling = Sampling::consecutive;  // unless the user says
  std::string format = {};                    // of questions and answers; empty for other sets
  std::string note = {};                      // what a user of this set should know; empty if nothing
};

// How a question with choices becomes text; the names for --calibration-format. The first is the default.
std::vector<std::string> question_formats();

struct NamedSet {
  std::string name;      // "flores"
  std::string argument;  // "LANG" for flores:LANG; empty if it takes none
  std::string what;      // one line
  // Languages and the like for a set with an argument, files found for one without; empty if it is not there.
  std::vector<std::string> (*found)(const std::filesystem::path& data);
};

const std::vector<NamedSet>& named_sets();

// Is `set` the notation of a named set, of a name with an argument for those that take one? Whether its data are there
// is another question.
bool is_named_set(const std::string& set);

// Whether --calibration-format applies to `set`.
bool has_questions(const std::string& set);

// `set` is a row's name (with its argument after a colon), a text or JSONL file, or a directory with *.txt and *.jsonl
// files anywhere below it, taken in the order of their paths. `format` is one of question_formats() or empty. Exit 66
// if it is none of these, 65 if it holds nothing of use.
Corpus open_corpus(const std::string& set, const std::filesystem::path& data, const std::string& format);

}  // namespace ptq

// Texts: where data files are, and how a publisher's file becomes documents.
//
// The data directory ($PTQ_DATA or --data) is laid out as data/prepare.py leaves it: wikitext2/wiki.test.raw,
// c4_sample/c4_sample.jsonl, arc_challenge/test.jsonl, piqa/dev.jsonl, winogrande/dev.jsonl, ...
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace ptq {

// A file that results depend on, as manifests record it.
struct SourceFile {
  std::string name;  // relative to the data directory, or the bare file name of a user's file
  std::uint64_t bytes = 0;
  std::string sha256;
};

// `data`/`relative`. Exit 66, saying how to get it, if there is no data directory or no such file in it.
std::filesystem::path data_file(const std::filesystem::path& data, const std::string& relative);

SourceFile describe(const std::filesystem::path& file, std::string name);

struct Text {
  std::string text;
  SourceFile source;
};

// The text of GPTQ-style perplexity (spec E.1, models.md 8.1): the rows of wiki.`split`.raw, blank ones as "", joined
// by two newlines.
Text read_wikitext2(const std::filesystem::path& data, std::string_view split = "test");

// A user's text file, bytes as they are. Exit 66 missing, 65 empty.
Text read_text(const std::filesystem::path& file);

enum class CorpusFormat : std::uint8_t { text, wikitext, jsonl };

// A named corpus or a user's file: a sequence of documents.
struct Corpus {
  std::string name;
  CorpusFormat format = CorpusFormat::text;
  std::filesystem::path file = {};
  std::string label = {};  // SourceFile::name of `file`
  std::string note = {};   // what a user of this corpus should know; empty if nothing
};

// `set` is wikitext2, c4, or a path: *.jsonl and *.json are JSON Lines with the document in "text", anything else is
// one document. Exit 66 if it is neither a known set nor a file.
Corpus find_corpus(const std::string& set, const std::filesystem::path& data);

// Documents in file order, empty ones included; the visitor returns false to stop.
void for_each_document(const Corpus& corpus, const std::function<bool(std::string_view text)>& visit);

}  // namespace ptq

// Where data files are, and the texts that perplexity is measured on.
//
// The data directory ($PTQ_DATA or --data) is laid out as data/prepare.py leaves it: wikitext2/wiki.test.raw,
// c4_sample/c4_sample.jsonl, redpajama/arxiv_sample.jsonl, flores200/dev/eng_Latn.dev, arc_challenge/test.jsonl, ...
#pragma once

#include <cstdint>
#include <filesystem>
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

bool present(const std::filesystem::path& path);

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

}  // namespace ptq

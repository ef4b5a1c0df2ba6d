// Small tokenizer.json files for tests, and how to load them.
#pragma once

#include "model/byte_level.h"
#include "model/tokenizer.h"
#include "model/utf8.h"
#include "temporary.h"

#include <nlohmann/json.hpp>

namespace ptq {

using Json = nlohmann::json;

// A tokenizer.json: the byte alphabet as ids 0..255, then the results of `merges` in order.
inline Json byte_level_json(const std::vector<std::pair<std::string, std::string>>& merges) {
  Json vocab = Json::object(), list = Json::array();
  for (unsigned b = 0; b < 256; ++b) {
    std::string symbol;
    append_utf8(symbol, byte_characters()[b]);
    vocab[symbol] = b;
  }
  for (const auto& [a, b] : merges) {
    vocab.emplace(a + b, vocab.size());
    list.push_back(a + " " + b);
  }
  return {{"added_tokens", Json::array()},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
          {"post_processor", nullptr},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", list}}}};
}

inline std::unique_ptr<Tokenizer> load(const Json& json, const std::string& config = "") {
  const TemporaryDirectory directory;
  put(directory / "tokenizer.json", json.dump());
  if (!config.empty()) put(directory / "tokenizer_config.json", config);
  return load_tokenizer(directory.path());
}

inline const std::string space = "\u0120";  // in the byte alphabet

inline Json added(const std::string& content, int id, Json flags = Json::object()) {
  Json token = {{"content", content}, {"id", id}, {"special", true}, {"normalized", false}};
  token.update(flags);
  return token;
}

// SentencePiece style: characters with byte fallback. Ids: 0 <unk>, 1..256 bytes, then the pieces.
inline Json metaspace_json() {
  Json vocab = {{"<unk>", 0}};
  for (int b = 0; b < 256; ++b) vocab[fmt::format("<0x{:02X}>", b)] = 1 + b;
  for (const char* piece : {"\u2581", "a", "b", "\u2581a", "ab"}) vocab.emplace(piece, vocab.size());
  const Json replace = {{"type", "Replace"}, {"pattern", {{"String", "\u2581"}}}, {"content", " "}};
  return {{"added_tokens", {added("<unk>", 0)}},
          {"normalizer", nullptr},
          {"pre_tokenizer",
           {{"type", "Metaspace"}, {"replacement", "\u2581"}, {"prepend_scheme", "first"}, {"split", false}}},
          {"decoder",
           {{"type", "Sequence"},
            {"decoders",
             {replace,
              {{"type", "ByteFallback"}},
              {{"type", "Fuse"}},
              {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}}}}},
          {"model",
           {{"type", "BPE"},
            {"vocab", vocab},
            {"merges", {"\u2581 a", "a b"}},
            {"unk_token", "<unk>"},
            {"fuse_unk", true},
            {"byte_fallback", true}}}};
}

}  // namespace ptq

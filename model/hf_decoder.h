// Decoders of tokenizer.json: from token strings back to text.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace ptq {

class TokenDecoder {
 public:
  // The object at "decoder" of tokenizer.json: ByteLevel, Metaspace, Replace, ByteFallback, Fuse, Strip and Sequences
  // of them; null joins the tokens with spaces. Exit 65 with `origin` for any other type, by name.
  TokenDecoder(const nlohmann::json& spec, const std::string& origin);

  static TokenDecoder byte_level();
  // Llama's: byte tokens become bytes, U+2581 becomes a space, and the first space goes.
  static TokenDecoder llama();

  std::string decode(std::vector<std::string> tokens) const;  // well-formed UTF-8

 private:
  TokenDecoder() = default;
  void add(const nlohmann::json& spec, const std::string& origin);

  std::string separator_;
  std::vector<std::function<void(std::vector<std::string>&)>> steps_;
};

}  // namespace ptq

// What tokenizer_config.json and special_tokens_map.json say about a tokenizer; both are optional.
#pragma once

#include "model/added_tokens.h"

#include <filesystem>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

namespace ptq {

struct TokenizerConfig {
  bool present = false;  // tokenizer_config.json is there
  std::string origin;    // its path
  std::optional<bool> legacy, add_bos, add_prefix_space;
  std::map<std::string, std::string> special;  // "bos_token" -> "<s>", every single token named in either file
  std::vector<AddedToken> added;               // added_tokens_decoder

  // The string of a special token, "" if there is none.
  std::string special_token(const std::string& role) const;
};

// One entry of added_tokens_decoder or of tokenizer.json's added_tokens. Exit 65 malformed.
AddedToken read_added_token(const nlohmann::json& json, std::int64_t id, const std::string& where);

// Exit 65 malformed.
TokenizerConfig read_tokenizer_config(const std::filesystem::path& directory);

}  // namespace ptq

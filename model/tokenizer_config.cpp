#include "model/tokenizer_config.h"

#include "host/error.h"
#include "host/files.h"
#include "host/printable.h"
#include "model/json_fields.h"
#include "model/vocabulary.h"

#include <charconv>

namespace ptq {

namespace {

constexpr std::uint64_t file_limit = std::uint64_t{64} << 20;
constexpr std::size_t added_token_bytes = 512;

std::optional<bool> optional_boolean(const JsonFields& fields, const char* key) {
  if (!fields.has(key)) return std::nullopt;
  return fields.boolean(key, false);
}

// A special token is a string or an object with "content".
void read_special(const nlohmann::json& json, const std::string& where, std::map<std::string, std::string>& special) {
  for (const char* role :
       {"bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"}) {
    const auto entry = json.find(role);
    if (entry == json.end() || entry->is_null() || special.contains(role)) continue;
    const std::string content = entry->is_object() ? JsonFields(*entry, where + ": " + role).text("content", "")
                                                   : JsonFields(json, where).text(role, "");
    if (!content.empty()) special[role] = content;
  }
}

}  // namespace

AddedToken read_added_token(const nlohmann::json& json, std::int64_t id, const std::string& where) {
  const JsonFields fields(json, where);
  AddedToken token;
  token.content = fields.text("content", "");
  require(!token.content.empty() && token.content.size() <= added_token_bytes, Exit::data,
          "{}: an added token has 1 to {} bytes, not {}", where, added_token_bytes, token.content.size());
  require(id >= 0 && id < Vocabulary::id_limit, Exit::data, "{}: id {} is outside [0, {})", where, id,
          Vocabulary::id_limit);
  token.id = static_cast<std::int32_t>(id);
  token.special = fields.boolean("special", false);
  token.single_word = fields.boolean("single_word", false);
  token.lstrip = fields.boolean("lstrip", false);
  token.rstrip = fields.boolean("rstrip", false);
  token.normalized = fields.boolean("normalized", !token.special);
  return token;
}

std::string TokenizerConfig::special_token(const std::string& role) const {
  const auto found = special.find(role);
  return found == special.end() ? "" : found->second;
}

TokenizerConfig read_tokenizer_config(const std::filesystem::path& directory) {
  TokenizerConfig config;
  const auto path = directory / "tokenizer_config.json";
  config.origin = path.string();
  std::error_code error;
  if (std::filesystem::exists(path, error)) {
    const nlohmann::json json = read_json(path, "tokenizer configuration", Size(file_limit));
    const JsonFields fields(json, config.origin);
    config.present = true;
    config.legacy = optional_boolean(fields, "legacy");
    config.add_bos = optional_boolean(fields, "add_bos_token");
    config.add_prefix_space = optional_boolean(fields, "add_prefix_space");
    read_special(json, config.origin, config.special);
    if (fields.has("added_tokens_decoder")) {
      fields.object("added_tokens_decoder");  // refuses other types
      for (const auto& [key, value] : json["added_tokens_decoder"].items()) {
        std::int64_t id = -1;
        const auto [end, problem] = std::from_chars(key.data(), key.data() + key.size(), id);
        require(problem == std::errc{} && end == key.data() + key.size(), Exit::data,
                "{}: added_tokens_decoder has the key \"{}\", not an id", config.origin, printable(key));
        config.added.push_back(read_added_token(value, id, config.origin + ": added_tokens_decoder"));
      }
    }
  }
  const auto map_path = directory / "special_tokens_map.json";
  if (std::filesystem::exists(map_path, error)) {
    const nlohmann::json json = read_json(map_path, "special tokens", Size(file_limit));
    const JsonFields fields(json, map_path.string());  // refuses other types
    read_special(json, fields.where(), config.special);
  }
  return config;
}

}  // namespace ptq

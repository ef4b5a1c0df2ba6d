// Typed access to the keys of a JSON object. A key that is absent or null has its default; a value of the wrong type
// or out of range is refused by name (exit 65), never converted or clamped.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace ptq {

class JsonFields {
 public:
  // `json` must be an object and outlive this; `where` is the file (and key) for messages.
  JsonFields(const nlohmann::json& json, std::string where);

  const std::string& where() const { return where_; }
  bool has(const char* key) const;       // present and not null
  bool mentions(const char* key) const;  // present, perhaps null

  // An integer in [low, high]; without a default the key is required.
  std::int64_t integer(const char* key, std::int64_t low, std::int64_t high,
                       std::optional<std::int64_t> otherwise = std::nullopt) const;
  // A finite number.
  double number(const char* key, std::optional<double> otherwise = std::nullopt) const;
  double positive(const char* key, std::optional<double> otherwise = std::nullopt) const;
  bool boolean(const char* key, bool otherwise) const;
  std::string text(const char* key, const std::string& otherwise) const;
  std::vector<double> positives(const char* key, std::size_t count) const;  // required
  std::vector<std::string> texts(const char* key) const;                    // empty when absent
  const nlohmann::json* find(const char* key) const;                        // null pointer when absent or null
  JsonFields object(const char* key) const;                                 // required

 private:
  const nlohmann::json* json_;
  std::string where_;
};

}  // namespace ptq

// Normalizers of tokenizer.json: what is done to text before it is cut into pieces.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace ptq {

class Normalizer {
 public:
  Normalizer() = default;  // leaves text as it is

  // The object at "normalizer" of tokenizer.json (null: none): NFC, Prepend, Replace and Sequences of them. Exit 65
  // with `origin` for any other type, by name.
  Normalizer(const nlohmann::json& spec, const std::string& origin);

  bool empty() const { return steps_.empty(); }

  // Every character stays where it was, so that "the very start of the text" means the same before and after.
  bool keeps_places() const { return keeps_places_; }

  std::string apply(std::string_view text) const;  // of well-formed UTF-8

 private:
  void add(const nlohmann::json& spec, const std::string& origin);

  std::vector<std::function<std::string(std::string)>> steps_;
  bool keeps_places_ = true;
};

}  // namespace ptq

// Typed access to a table of a TOML file, with the line in every message. What a program does not ask for is an unknown
// key: a table knows at the end which keys there may be, so that a mistyped one never passes silently.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace toml {
inline namespace v3 {
class table;
class node;
}  // namespace v3
}  // namespace toml

namespace ptq {

// "FILE:LINE: "
std::string toml_place(const std::string& file, const toml::node& node);

class TomlFields {
 public:
  // `table` must outlive this; `what` names it in messages, "[[set]]".
  TomlFields(const toml::table& table, std::string file, std::string what);

  // Exit 65, naming file, line and key, if the value is of another type or out of range.
  std::optional<std::string> text(const char* key);
  std::string required_text(const char* key);
  std::optional<std::int64_t> integer(const char* key, std::int64_t low, std::int64_t high);
  std::optional<double> number(const char* key);
  std::optional<bool> boolean(const char* key);
  // A string or a list of strings; a list must hold something.
  std::optional<std::vector<std::string>> texts(const char* key);
  // An integer that is not negative, or a list of them; a list must hold something.
  std::optional<std::vector<std::uint64_t>> integers(const char* key);
  std::optional<TomlFields> table(const char* key);
  std::vector<TomlFields> tables(const char* key);  // [[key]], in the order of the file
  const toml::node* any(const char* key);           // whatever it is; null if absent

  // Exit 65, naming the first key that was not asked for, near ones and those that there are.
  void finish() const;

  // Exit 65 at the table's or the key's line.
  [[noreturn]] void fail(const std::string& message) const;
  [[noreturn]] void fail(const char* key, const std::string& message) const;
  std::string place(const char* key = nullptr) const;  // "FILE:LINE: " of the key if it is there, else of the table
  std::string place(const char* key, std::size_t index) const;  // of an element of the key's list
  const std::string& what() const { return what_; }

 private:
  const toml::node* find(const char* key);

  const toml::table* table_;
  std::string file_, what_;
  std::set<std::string> asked_;
};

}  // namespace ptq

#include "eval/toml_fields.h"

#include "data/near_names.h"
#include "eval/toml.h"
#include "host/error.h"
#include "host/printable.h"

#include <algorithm>
#include <cmath>

namespace ptq {

namespace {

// Bounds of the work on a hostile file.
constexpr std::size_t longest_text = 4096, longest_list = 10000;

// Names end up in tables and messages of one line.
bool has_control_characters(const std::string& text) {
  return std::ranges::any_of(text, [](char c) { return (0 <= c && c < ' ') || c == 0x7f; });
}

std::string type_of(const toml::node& node) {
  std::string_view name = "?";
  switch (node.type()) {
    case toml::node_type::table:
      name = "a table";
      break;
    case toml::node_type::array:
      name = "a list";
      break;
    case toml::node_type::string:
      name = "a string";
      break;
    case toml::node_type::integer:
      name = "an integer";
      break;
    case toml::node_type::floating_point:
      name = "a number with a fraction";
      break;
    case toml::node_type::boolean:
      name = "a boolean";
      break;
    default:
      name = "a date or a time";
  }
  return std::string(name);
}

}  // namespace

std::string toml_place(const std::string& file, const toml::node& node) {
  return fmt::format("{}:{}: ", file, node.source().begin.line);
}

TomlFields::TomlFields(const toml::table& table, std::string file, std::string what)
    : table_(&table), file_(std::move(file)), what_(std::move(what)) {}

const toml::node* TomlFields::find(const char* key) {
  asked_.insert(key);
  return table_->get(key);
}

const toml::node* TomlFields::any(const char* key) { return find(key); }

std::string TomlFields::place(const char* key) const {
  const toml::node* node = key ? table_->get(key) : nullptr;
  return toml_place(file_, node ? *node : *table_);
}

std::string TomlFields::place(const char* key, std::size_t index) const {
  const toml::node* node = table_->get(key);
  const toml::array* list = node ? node->as_array() : nullptr;
  return list && index < list->size() ? toml_place(file_, *list->get(index)) : place(key);
}

void TomlFields::fail(const std::string& message) const {
  ptq::fail(Exit::data, "{}{}{}{}", place(), what_, what_.empty() ? "" : ": ", message);
}

void TomlFields::fail(const char* key, const std::string& message) const {
  ptq::fail(Exit::data, "{}{}{}{} {}", place(key), what_, what_.empty() ? "" : ": ", key, message);
}

std::optional<std::string> TomlFields::text(const char* key) {
  const toml::node* node = find(key);
  if (!node) return std::nullopt;
  const auto* value = node->as_string();
  if (!value) fail(key, "must be a string, not " + type_of(*node));
  if (value->get().empty()) fail(key, "is empty");
  if (value->get().size() > longest_text) fail(key, fmt::format("is longer than {} bytes", longest_text));
  if (has_control_characters(value->get())) fail(key, "holds a control character");
  return value->get();
}

std::string TomlFields::required_text(const char* key) {
  auto value = text(key);
  if (!value) fail(fmt::format("{} is missing", key));
  return *value;
}

std::optional<std::int64_t> TomlFields::integer(const char* key, std::int64_t low, std::int64_t high) {
  const toml::node* node = find(key);
  if (!node) return std::nullopt;
  const auto* value = node->as_integer();
  if (!value) fail(key, "must be an integer, not " + type_of(*node));
  if (value->get() < low || value->get() > high)
    fail(key, fmt::format("= {} is out of range; {} to {}", value->get(), low, high));
  return value->get();
}

std::optional<double> TomlFields::number(const char* key) {
  const toml::node* node = find(key);
  if (!node) return std::nullopt;
  const auto value = node->is_number() ? node->value<double>() : std::nullopt;
  if (!value || !std::isfinite(*value)) fail(key, "must be a finite number");
  return value;
}

std::optional<bool> TomlFields::boolean(const char* key) {
  const toml::node* node = find(key);
  if (!node) return std::nullopt;
  const auto* value = node->as_boolean();
  if (!value) fail(key, "must be true or false, not " + type_of(*node));
  return value->get();
}

std::optional<std::vector<std::string>> TomlFields::texts(const char* key) {
  const toml::node* node = find(key);
  if (!node) return std::nullopt;
  if (node->is_string()) return std::vector<std::string>{*text(key)};
  const toml::array* list = node->as_array();
  if (!list) fail(key, "must be a string or a list of strings, not " + type_of(*node));
  if (list->empty()) fail(key, "is an empty list: the grid would hold nothing of it");
  if (list->size() > longest_list) fail(key, fmt::format("has more than {} entries", longest_list));
  std::vector<std::string> values;
  for (const toml::node& element : *list) {
    const auto* value = element.as_string();
    require(
        value && !value->get().empty() && value->get().size() <= longest_text && !has_control_characters(value->get()),
        Exit::data, "{}{}: {} must hold strings of 1 to {} bytes without control characters",
        toml_place(file_, element), what_, key, longest_text);
    values.push_back(value->get());
  }
  return values;
}

std::optional<std::vector<std::uint64_t>> TomlFields::integers(const char* key) {
  const toml::node* node = find(key);
  if (!node) return std::nullopt;
  std::vector<std::uint64_t> values;
  const auto take = [&](const toml::node& element) {
    const auto* value = element.as_integer();
    require(value && value->get() >= 0, Exit::data, "{}{}: {} must be an integer from 0, or a list of them",
            toml_place(file_, element), what_, key);
    values.push_back(static_cast<std::uint64_t>(value->get()));
  };
  if (const toml::array* list = node->as_array()) {
    if (list->empty()) fail(key, "is an empty list: the grid would hold nothing of it");
    if (list->size() > longest_list) fail(key, fmt::format("has more than {} entries", longest_list));
    for (const toml::node& element : *list) take(element);
  } else {
    take(*node);
  }
  return values;
}

std::optional<TomlFields> TomlFields::table(const char* key) {
  const toml::node* node = find(key);
  if (!node) return std::nullopt;
  if (!node->is_table()) fail(key, "must be a table, not " + type_of(*node));
  return TomlFields(*node->as_table(), file_, what_.empty() ? fmt::format("[{}]", key) : what_ + " " + key);
}

std::vector<TomlFields> TomlFields::tables(const char* key) {
  const toml::node* node = find(key);
  std::vector<TomlFields> all;
  if (!node) return all;
  const toml::array* list = node->as_array();
  if (!list) fail(key, fmt::format("is {}; it is written [[{}]]", type_of(*node), key));
  if (list->size() > longest_list) fail(key, fmt::format("has more than {} entries", longest_list));
  for (const toml::node& element : *list) {
    require(element.is_table(), Exit::data, "{}{} is a list of tables, written [[{}]]", toml_place(file_, element), key,
            key);
    all.emplace_back(*element.as_table(), file_, fmt::format("[[{}]]", key));
  }
  return all;
}

void TomlFields::finish() const {
  for (const auto& [key, node] : *table_) {
    if (asked_.contains(std::string(key.str()))) continue;
    const std::vector<std::string> known(asked_.begin(), asked_.end());
    const std::string name = printable(key.str());
    ptq::fail(Exit::data, "{}{}unknown key '{}'; did you mean {}? Known here: {}", toml_place(file_, node),
              what_.empty() ? "" : what_ + ": ", name, near_names(name, known, 1).at(0), fmt::join(known, ", "));
  }
}

}  // namespace ptq

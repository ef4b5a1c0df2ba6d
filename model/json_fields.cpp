#include "model/json_fields.h"

#include "host/error.h"
#include "host/printable.h"

#include <cmath>

namespace ptq {

namespace {

using Json = nlohmann::json;

std::string shown(const Json& value) {
  return printable(value.dump(-1, ' ', true, Json::error_handler_t::replace), 60);
}

}  // namespace

JsonFields::JsonFields(const Json& json, std::string where) : json_(&json), where_(std::move(where)) {
  require(json.is_object(), Exit::data, "{}: it must be a JSON object", where_);
}

const Json* JsonFields::find(const char* key) const {
  const auto at = json_->find(key);
  return at == json_->end() || at->is_null() ? nullptr : &*at;
}

bool JsonFields::has(const char* key) const { return find(key) != nullptr; }

bool JsonFields::mentions(const char* key) const { return json_->contains(key); }

std::int64_t JsonFields::integer(const char* key, std::int64_t low, std::int64_t high,
                                 std::optional<std::int64_t> otherwise) const {
  const Json* value = find(key);
  require(value != nullptr || otherwise, Exit::data, "{}: {} is missing", where_, key);
  if (value == nullptr) return *otherwise;
  // Above the signed range the library holds an unsigned number (or a float, which is refused as such).
  const bool fits = value->is_number_integer() &&
                    (!value->is_number_unsigned() || value->get<std::uint64_t>() <= std::uint64_t{INT64_MAX});
  require(fits && value->get<std::int64_t>() >= low && value->get<std::int64_t>() <= high, Exit::data,
          "{}: {} = {} is not an integer from {} to {}", where_, key, shown(*value), low, high);
  return value->get<std::int64_t>();
}

double JsonFields::number(const char* key, std::optional<double> otherwise) const {
  const Json* value = find(key);
  require(value != nullptr || otherwise, Exit::data, "{}: {} is missing", where_, key);
  if (value == nullptr) return *otherwise;
  require(value->is_number() && std::isfinite(value->get<double>()), Exit::data, "{}: {} = {} is not a finite number",
          where_, key, shown(*value));
  return value->get<double>();
}

double JsonFields::positive(const char* key, std::optional<double> otherwise) const {
  const double value = number(key, otherwise);
  // Values end up in fp32: what is not a positive number there is not one here.
  const auto single = static_cast<float>(value);
  require(single > 0.0f && std::isfinite(single), Exit::data, "{}: {} = {} is not a positive number", where_, key,
          value);
  return value;
}

bool JsonFields::boolean(const char* key, bool otherwise) const {
  const Json* value = find(key);
  if (value == nullptr) return otherwise;
  require(value->is_boolean(), Exit::data, "{}: {} = {} is not true or false", where_, key, shown(*value));
  return value->get<bool>();
}

std::string JsonFields::text(const char* key, const std::string& otherwise) const {
  const Json* value = find(key);
  if (value == nullptr) return otherwise;
  require(value->is_string(), Exit::data, "{}: {} = {} is not a string", where_, key, shown(*value));
  return value->get<std::string>();
}

std::vector<double> JsonFields::positives(const char* key, std::size_t count) const {
  const Json* value = find(key);
  require(value != nullptr && value->is_array() && value->size() == count, Exit::data,
          "{}: {} must be a list of {} numbers", where_, key, count);
  std::vector<double> numbers;
  for (const Json& element : *value) {
    require(element.is_number() && std::isfinite(element.get<double>()) && element.get<double>() > 0.0, Exit::data,
            "{}: {} holds {}, not a positive number", where_, key, shown(element));
    numbers.push_back(element.get<double>());
  }
  return numbers;
}

std::vector<std::string> JsonFields::texts(const char* key) const {
  const Json* value = find(key);
  std::vector<std::string> strings;
  if (value == nullptr) return strings;
  require(value->is_array(), Exit::data, "{}: {} = {} is not a list", where_, key, shown(*value));
  for (const Json& element : *value) {
    require(element.is_string(), Exit::data, "{}: {} holds {}, not a string", where_, key, shown(element));
    strings.push_back(element.get<std::string>());
  }
  return strings;
}

JsonFields JsonFields::object(const char* key) const {
  const Json* value = find(key);
  require(value != nullptr, Exit::data, "{}: {} is missing", where_, key);
  return JsonFields(*value, where_ + ": " + key);
}

}  // namespace ptq

// parse_json and read_json of host/files.h, apart from files.cpp because nlohmann/json is slow to compile.
#include "host/error.h"
#include "host/files.h"
#include "host/printable.h"

#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

namespace ptq {

namespace {

constexpr std::size_t max_depth = 128;

using Json = nlohmann::json;

// Builds the document from the library's events, refusing what its own builder accepts: deep nesting and duplicate
// keys. (The library's filtering callbacks could do so too, but take quadratic time on arrays of objects.)
class Builder : public nlohmann::json_sax<Json> {
 public:
  explicit Builder(const std::string& origin) : origin_(origin) {}

  Json take() { return std::move(root_); }

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t& value) override { return add(std::move(value)); }
  bool key(string_t& value) override {
    key_ = std::move(value);
    return true;
  }
  bool start_object(std::size_t) override { return open(Json::object()); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }

  bool parse_error(std::size_t byte, const std::string&, const Json::exception& e) override {
    fail(Exit::data, "{}: malformed JSON at byte {}: {}", origin_, byte, json_reason(e.what()));
  }

 private:
  bool add(Json value) {
    place(std::move(value));
    return true;
  }

  Json* place(Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    Json& parent = *open_.back();
    if (parent.is_array()) return &parent.emplace_back(std::move(value));
    const auto [at, fresh] = parent.get_ref<Json::object_t&>().emplace(std::move(key_), std::move(value));
    if (!fresh) fail(Exit::data, "{}: JSON key \"{}\" occurs twice in an object", origin_, printable(at->first));
    return &at->second;
  }

  bool open(Json container) {
    require(open_.size() < max_depth, Exit::data, "{}: JSON is nested deeper than {}", origin_, max_depth);
    open_.push_back(place(std::move(container)));
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  const std::string& origin_;
  Json root_;
  std::string key_;
  std::vector<Json*> open_;  // the containers being filled, outermost first
};

}  // namespace

nlohmann::json parse_json(std::string_view text, const std::string& origin) {
  // The library takes a NUL for the end of its input and would not look at what follows.
  const auto nul = text.find('\0');
  require(nul == std::string_view::npos, Exit::data, "{}: byte {} is a NUL, not JSON", origin, nul);
  Builder builder(origin);
  Json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

nlohmann::json read_json(const std::filesystem::path& path, std::string_view what, Size limit) {
  return parse_json(read_file(path, what, limit), path.string());
}

}  // namespace ptq

#include "model/activation_card.h"

#include "host/error.h"
#include "host/files.h"
#include "host/printable.h"
#include "model/json_fields.h"

#include <algorithm>
#include <cmath>

namespace ptq {

namespace {

using Json = nlohmann::json;

template <class Value, std::size_t N>
using Spellings = std::array<std::pair<const char*, Value>, N>;

constexpr Spellings<ActivationKind, 2> kinds{{{"integer", ActivationKind::integer}, {"nf4", ActivationKind::nf4}}};
constexpr Spellings<ActivationRange, 3> ranges{
    {{"token", ActivationRange::token}, {"sequence", ActivationRange::sequence}, {"fixed", ActivationRange::fixed}}};

template <class Value, std::size_t N>
const char* spelling(const Spellings<Value, N>& known, Value value) {
  for (const auto& [name, v] : known) {
    if (v == value) return name;
  }
  fail(Exit::internal, "an activation choice without a name");
}

template <class Value, std::size_t N>
Value value_of(const Spellings<Value, N>& known, const JsonFields& json, const char* key) {
  const std::string text = json.text(key, "");
  for (const auto& [name, value] : known) {
    if (text == name) return value;
  }
  fail(Exit::data, "{}: unknown {} \"{}\"", json.where(), key, printable(text));
}

template <std::size_t N>
std::array<float, N> absmax_of(const JsonFields& json, const char* key) {
  const Json* list = json.find(key);
  require(list != nullptr && list->is_array() && list->size() == N, Exit::data, "{}: {} is not a list of {} numbers",
          json.where(), key, N);
  std::array<float, N> values{};
  for (std::size_t i = 0; i < N; ++i) {
    const Json& element = (*list)[i];
    values[i] = element.is_number() ? element.get<float>() : -1.0f;
    require(values[i] >= 0.0f && std::isfinite(values[i]), Exit::data, "{}: {}[{}] is not a non-negative number",
            json.where(), key, i);
  }
  return values;
}

// A key that is not read would silently mean other numbers.
void require_only(const Json& object, std::initializer_list<std::string_view> known, const std::string& where) {
  for (const auto& [key, value] : object.items()) {
    require(std::find(known.begin(), known.end(), key) != known.end(), Exit::data, "{}: unknown key \"{}\"", where,
            printable(key));
  }
}

}  // namespace

Json to_json(const ActivationQuant& a) {
  if (!a) return nullptr;
  Json json{{"kind", spelling(kinds, a.kind)}};
  if (a.kind == ActivationKind::nf4) return json;
  json.update({{"bits", a.bits},
               {"range", spelling(ranges, a.range)},
               {"bmm", a.bmm},
               {"outlier_threshold", a.outlier_threshold},
               {"weight_bits", a.weight_bits},
               {"weight_per_tensor", a.weight_per_tensor}});
  if (a.range == ActivationRange::fixed) {
    json["fixed"] = Json::array();
    for (const FixedRanges& r : a.fixed) json["fixed"].push_back({{"input", r.input}, {"qkv", r.qkv}});
  }
  return json;
}

ActivationQuant activations_from_json(const Json& value, const std::string& where) {
  ActivationQuant a;
  if (value.is_null()) return a;
  const JsonFields json(value, where);
  a.kind = ActivationKind::integer;
  if (json.has("granularity")) {
    require_only(value, {"bits", "granularity"}, where);
    require(json.integer("bits", 8, 8) == 8 && json.text("granularity", "") == "per-token", Exit::data,
            "{}: only 8 bits per token are known", where);
    a.weight_bits = 8;
    return a;
  }
  a.kind = value_of(kinds, json, "kind");
  if (a.kind == ActivationKind::nf4) {
    require_only(value, {"kind"}, where);
    return a;
  }
  require_only(
      value, {"kind", "bits", "range", "bmm", "outlier_threshold", "weight_bits", "weight_per_tensor", "fixed"}, where);
  a.bits = static_cast<int>(json.integer("bits", 2, 8));
  a.range = value_of(ranges, json, "range");
  a.bmm = json.boolean("bmm", false);
  const double threshold = json.number("outlier_threshold", 0.0);
  require(threshold >= 0.0 && threshold <= 1e30, Exit::data, "{}: outlier_threshold = {} is out of range", where,
          threshold);
  require(threshold == 0.0 || a.range == ActivationRange::token, Exit::data,
          "{}: outlier_threshold goes with the range \"token\" only", where);
  a.outlier_threshold = static_cast<float>(threshold);
  a.weight_bits = static_cast<int>(json.integer("weight_bits", 0, 8, 0));
  require(a.weight_bits != 1, Exit::data, "{}: weight_bits = 1; it is 0 or 2 to 8", where);
  a.weight_per_tensor = json.boolean("weight_per_tensor", false);
  const Json* fixed = json.find("fixed");
  require((a.range == ActivationRange::fixed) == (fixed != nullptr && fixed->is_array()), Exit::data,
          "{}: fixed must be a list of the ranges if range is \"fixed\", and absent otherwise", where);
  if (fixed == nullptr) return a;
  for (std::size_t layer = 0; layer < fixed->size(); ++layer) {
    const JsonFields ranges_of_layer((*fixed)[layer], fmt::format("{}: fixed[{}]", where, layer));
    require_only((*fixed)[layer], {"input", "qkv"}, ranges_of_layer.where());
    a.fixed.push_back({absmax_of<4>(ranges_of_layer, "input"), absmax_of<3>(ranges_of_layer, "qkv")});
  }
  return a;
}

nlohmann::json read_card(const std::filesystem::path& directory) {
  const std::filesystem::path path = directory / card_name;
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return nullptr;
  Json card = read_json(path, "provenance card");
  require(card.is_object(), Exit::data, "{}: not a JSON object", path.string());
  return card;
}

std::optional<ActivationQuant> read_activations(const std::filesystem::path& directory, int layers) {
  const Json card = read_card(directory);
  if (!card.contains("activations")) return std::nullopt;
  const std::string where = (directory / card_name).string() + ": activations";
  ActivationQuant a = activations_from_json(card.at("activations"), where);
  require(a.range != ActivationRange::fixed || a.fixed.size() == static_cast<std::size_t>(layers), Exit::data,
          "{}: ranges of {} layers for a model of {}", where, a.fixed.size(), layers);
  return a;
}

}  // namespace ptq

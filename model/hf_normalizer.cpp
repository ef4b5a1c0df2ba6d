#include "model/hf_normalizer.h"

#include "host/error.h"
#include "host/printable.h"
#include "model/json_fields.h"
#include "model/regex.h"
#include "model/unicode.h"
#include "model/utf8.h"

namespace ptq {

namespace {

std::string replace_spans(std::string_view text, const std::vector<Span>& spans, std::string_view content) {
  std::string out;
  std::size_t done = 0;
  for (const Span& s : spans) {
    out.append(text.substr(done, s.begin - done)).append(content);
    done = s.end;
  }
  return out.append(text.substr(done));
}

std::string replace_literal(std::string_view text, std::string_view pattern, std::string_view content) {
  std::string out;
  std::size_t done = 0;
  for (std::size_t at; (at = text.find(pattern, done)) != std::string_view::npos; done = at + pattern.size()) {
    out.append(text.substr(done, at - done)).append(content);
  }
  return out.append(text.substr(done));
}

bool is_one_character(const std::string& text) { return !text.empty() && decode_utf8(text, 0).length == text.size(); }

}  // namespace

Normalizer::Normalizer(const nlohmann::json& spec, const std::string& origin) {
  if (!spec.is_null()) add(spec, origin + ": normalizer");
}

void Normalizer::add(const nlohmann::json& spec, const std::string& origin) {
  const JsonFields fields(spec, origin);
  const std::string type = fields.text("type", "absent");
  if (type == "Sequence") {
    const nlohmann::json* list = fields.find("normalizers");
    require(list != nullptr && list->is_array(), Exit::data, "{}: a Sequence needs the list normalizers", origin);
    for (std::size_t i = 0; i < list->size(); ++i) add((*list)[i], fmt::format("{}[{}]", origin, i));
  } else if (type == "NFC") {
    steps_.push_back([](const std::string& text) { return normalize_nfc(text); });
  } else if (type == "Prepend") {
    keeps_places_ = false;
    steps_.push_back([prefix = fields.text("prepend", "")](std::string text) {
      return text.empty() ? text : prefix + std::move(text);
    });
  } else if (type == "Replace") {
    const JsonFields pattern = fields.object("pattern");
    const std::string content = fields.text("content", "");
    if (pattern.has("Regex")) {
      keeps_places_ = false;
      steps_.push_back([regex = Regex(pattern.text("Regex", ""), pattern.where()), content](const std::string& text) {
        std::vector<Span> spans;
        Regex::Matcher(regex).find_all(text, spans);
        return replace_spans(text, spans, content);
      });
      return;
    }
    const std::string literal = pattern.text("String", "");
    require(!literal.empty(), Exit::data, "{}: a Replace needs a Regex or a String that is not empty", origin);
    keeps_places_ = keeps_places_ && is_one_character(literal) && is_one_character(content);
    steps_.push_back([literal, content](const std::string& text) { return replace_literal(text, literal, content); });
  } else {
    fail(Exit::data, "{}: normalizer type \"{}\" is not supported", origin, printable(type));
  }
}

std::string Normalizer::apply(std::string_view text) const {
  std::string out(text);
  for (const auto& step : steps_) out = step(std::move(out));
  return out;
}

}  // namespace ptq

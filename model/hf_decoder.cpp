#include "model/hf_decoder.h"

#include "host/error.h"
#include "host/printable.h"
#include "model/byte_level.h"
#include "model/json_fields.h"
#include "model/utf8.h"

#include <charconv>
#include <optional>

namespace ptq {

namespace {

using Tokens = std::vector<std::string>;

constexpr char metaspace[] = "\u2581";

void fuse(Tokens& tokens) {
  std::string all;
  for (const std::string& t : tokens) all += t;
  tokens.assign(1, std::move(all));
}

void decode_byte_level(Tokens& tokens) {
  std::string bytes, storage;
  for (const std::string& t : tokens) append_bytes_of(bytes, t);
  tokens.assign(1, std::string(repair_utf8(bytes, storage)));
}

std::string replaced(const std::string& text, const std::string& from, const std::string& to) {
  std::string out;
  std::size_t done = 0;
  for (std::size_t at; (at = text.find(from, done)) != std::string::npos; done = at + from.size()) {
    out.append(text, done, at - done).append(to);
  }
  return out.append(text, done, std::string::npos);
}

// The byte of a token <0xXX>.
std::optional<char> byte_token(const std::string& t) {
  if (t.size() != 6 || !t.starts_with("<0x") || t[5] != '>') return std::nullopt;
  unsigned value = 0;
  const auto [end, error] = std::from_chars(t.data() + 3, t.data() + 5, value, 16);
  if (error != std::errc{} || end != t.data() + 5) return std::nullopt;
  return static_cast<char>(value);
}

// Neighbouring byte tokens are one text; if it is ill-formed, each of them becomes U+FFFD.
void decode_byte_fallback(Tokens& tokens) {
  Tokens out;
  std::string run;
  const auto flush = [&] {
    if (run.empty()) return;
    if (is_utf8(run)) {
      out.push_back(run);
    } else {
      out.insert(out.end(), run.size(), "\uFFFD");
    }
    run.clear();
  };
  for (std::string& t : tokens) {
    if (const auto byte = byte_token(t)) {
      run += *byte;
    } else {
      flush();
      out.push_back(std::move(t));
    }
  }
  flush();
  tokens = std::move(out);
}

void strip(Tokens& tokens, const std::string& content, std::int64_t start, std::int64_t stop) {
  for (std::string& t : tokens) {
    std::string_view rest = t;
    for (std::int64_t i = 0; i < start && rest.starts_with(content); ++i) rest.remove_prefix(content.size());
    for (std::int64_t i = 0; i < stop && rest.ends_with(content); ++i) rest.remove_suffix(content.size());
    t = std::string(rest);
  }
}

}  // namespace

TokenDecoder::TokenDecoder(const nlohmann::json& spec, const std::string& origin) {
  if (spec.is_null()) {
    separator_ = ' ';
  } else {
    add(spec, origin + ": decoder");
  }
}

TokenDecoder TokenDecoder::byte_level() {
  TokenDecoder d;
  d.steps_.emplace_back(decode_byte_level);
  return d;
}

TokenDecoder TokenDecoder::llama() {
  TokenDecoder d;
  d.steps_.emplace_back([](Tokens& tokens) {
    for (std::string& t : tokens) t = replaced(t, metaspace, " ");
  });
  d.steps_.emplace_back(decode_byte_fallback);
  d.steps_.emplace_back(fuse);
  d.steps_.emplace_back([](Tokens& tokens) { strip(tokens, " ", 1, 0); });
  return d;
}

void TokenDecoder::add(const nlohmann::json& spec, const std::string& origin) {
  const JsonFields fields(spec, origin);
  const std::string type = fields.text("type", "absent");
  if (type == "Sequence") {
    const nlohmann::json* list = fields.find("decoders");
    require(list != nullptr && list->is_array(), Exit::data, "{}: a Sequence needs the list decoders", origin);
    for (std::size_t i = 0; i < list->size(); ++i) add((*list)[i], fmt::format("{}[{}]", origin, i));
  } else if (type == "ByteLevel") {
    steps_.emplace_back(decode_byte_level);
  } else if (type == "ByteFallback") {
    steps_.emplace_back(decode_byte_fallback);
  } else if (type == "Fuse") {
    steps_.emplace_back(fuse);
  } else if (type == "Replace") {
    const std::string from = fields.object("pattern").text("String", "");
    require(!from.empty(), Exit::data, "{}: a Replace needs a String that is not empty", origin);
    steps_.emplace_back([from, to = fields.text("content", "")](Tokens& tokens) {
      for (std::string& t : tokens) t = replaced(t, from, to);
    });
  } else if (type == "Strip") {
    const std::string content = fields.text("content", " ");
    require(!content.empty(), Exit::data, "{}: Strip needs a content", origin);
    const std::int64_t start = fields.integer("start", 0, 1 << 20, 0), stop = fields.integer("stop", 0, 1 << 20, 0);
    steps_.emplace_back([=](Tokens& tokens) { strip(tokens, content, start, stop); });
  } else if (type == "Metaspace") {
    const std::string mark = fields.text("replacement", metaspace);
    require(!mark.empty(), Exit::data, "{}: the replacement of Metaspace is empty", origin);
    const std::string scheme =
        fields.text("prepend_scheme", fields.boolean("add_prefix_space", true) ? "always" : "never");
    steps_.emplace_back([mark, drops = scheme != "never"](Tokens& tokens) {
      for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = replaced(tokens[i], mark, i == 0 && drops ? "" : " ");
    });
  } else {
    fail(Exit::data, "{}: decoder type \"{}\" is not supported", origin, printable(type));
  }
}

std::string TokenDecoder::decode(std::vector<std::string> tokens) const {
  for (const auto& step : steps_) step(tokens);
  std::string text;
  for (std::size_t i = 0; i < tokens.size(); ++i) text.append(i > 0 ? separator_ : "").append(tokens[i]);
  return text;
}

}  // namespace ptq

#include "data/manifest.h"

#include "data/ids.h"

#include <nlohmann/json.hpp>

namespace ptq {

namespace {

constexpr std::string_view probe =
    "The 1st of 20,345 rows: x_i += (a*b) - c/d; it's \"quoted\" #42 <tag> {key} [list] \\n ~ ^ ` | @ $ % & ! ? =\t\n"
    "  two  spaces\r\n\n  caf\xc3\xa9 na\xc3\xafve \xd0\x9f\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82 "
    "\xce\xba\xce\xb1\xce\xbb\xce\xb7 \xe4\xbd\xa0\xe5\xa5\xbd \xe6\x97\xa5\xe6\x9c\xac "
    "\xe0\xa4\xa8\xe0\xa4\xae\xe0\xa4\xb8\xe0\xa5\x8d\xe0\xa4\xa4\xe0\xa5\x87 \xd8\xb3\xd9\x84\xd8\xa7\xd9\x85 "
    "\xed\x95\x9c\xea\xb5\xad\xec\x96\xb4 \xf0\x9f\x99\x82";

}  // namespace

nlohmann::json manifest_json(const CalibrationManifest& m) {
  nlohmann::json json = {{"set", m.set},
                         {"packing", m.packing},
                         {"windows", m.windows},
                         {"seqlen", m.seqlen},
                         {"tokens", m.tokens},
                         {"unique_tokens", m.unique_tokens},
                         {"ids_sha256", m.ids_sha256}};
  if (m.parts.empty()) {
    nlohmann::json& sources = json["sources"] = nlohmann::json::array();
    for (const SourceFile& s : m.sources)
      sources.push_back({{"file", s.name}, {"bytes", s.bytes}, {"sha256", s.sha256}});
    if (m.samples > 0) {
      json["documents"] = m.documents;
      json["bos"] = {{"rule", "the tokenizer's own prefix, once before each tokenized text"}, {"ids", m.prefix}};
    }
  } else {
    nlohmann::json& parts = json["parts"] = nlohmann::json::array();
    for (const CalibrationManifest& part : m.parts) parts.push_back(manifest_json(part));
  }
  if (m.samples > 0) json["samples"] = m.samples;
  if (m.sentences > 0) json["sentences"] = m.sentences;
  if (m.weight > 0) json["weight"] = m.weight;
  if (!m.format.empty()) json["format"] = m.format;
  if (!m.text_sha256.empty()) json["text_sha256"] = m.text_sha256;
  if (m.seeded) json["seed"] = m.seed;
  if (!m.notes.empty()) json["notes"] = m.notes;
  if (!m.tokenizer.empty()) json["tokenizer"] = {{"description", m.tokenizer}, {"sha256", m.tokenizer_sha256}};
  if (!m.request.empty()) json["request"] = nlohmann::json::parse(m.request);
  // Names of files need not be UTF-8, a manifest is.
  return nlohmann::json::parse(json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

std::string tokenizer_sha256(const Tokenizer& tokenizer) {
  std::vector<std::int32_t> ids = tokenizer.prefix();
  ids.push_back(static_cast<std::int32_t>(tokenizer.vocab_size()));
  const std::vector<std::int32_t> content = tokenizer.encode(probe);
  ids.insert(ids.end(), content.begin(), content.end());
  return ids_sha256(ids);
}

}  // namespace ptq

#include "data/nonsense.h"

#include "data/python_random.h"
#include "host/error.h"
#include "host/files.h"

namespace ptq {

std::string nonsense_text(std::uint64_t seed, std::int64_t length) {
  constexpr std::string_view alphabet = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ \t\n\r\x0b\x0c";
  PythonRandom random(seed);
  std::string text(static_cast<std::size_t>(length), ' ');
  for (char& c : text) c = alphabet[static_cast<std::size_t>(random.randint(0, alphabet.size() - 1))];
  return text;
}

CalibrationSet nonsense_set(const Tokenizer& tokenizer, const WindowRule& rule) {
  constexpr std::int64_t most_characters = std::int64_t{1} << 30;
  CalibrationSet set;
  std::vector<std::int32_t> ids;
  for (std::int64_t characters = rule.tokens(); static_cast<std::int64_t>(ids.size()) < rule.tokens();
       characters *= 2) {
    require(characters <= most_characters, Exit::usage,
            "{} windows of {} tokens need more than {} characters of nonsense; use fewer --samples", rule.samples,
            rule.seqlen, most_characters);
    set.text = nonsense_text(rule.seed, characters);
    ids = with_prefix(tokenizer, set.text);
  }
  CalibrationManifest& m = set.manifest;
  m.set = "nonsense";
  m.packing = "uniform ASCII punctuation and white space, consecutive windows";
  m.documents = 1;
  m.text_sha256 = sha256_hex(set.text);
  m.prefix = tokenizer.prefix();
  m.seeded = true;
  cut_windows(set, ids, rule);
  return set;
}

}  // namespace ptq

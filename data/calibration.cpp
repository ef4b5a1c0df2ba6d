#include "data/calibration.h"

#include "data/ids.h"
#include "data/mixture.h"
#include "data/nonsense.h"
#include "host/error.h"
#include "host/printable.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>

namespace ptq {

namespace {

using Ids = std::vector<std::int32_t>;

constexpr std::string_view ids_scheme = "ids:";
constexpr std::array<std::string_view, 4> sampling_names{"auto", "consecutive", "gptq",
                                                         "awq"};  // in the order of Sampling

bool is_ids(const std::string& set) { return set.starts_with(ids_scheme); }

// One set, not a mixture; `samples` if it is part of one.
CalibrationSet take_ids(const std::string& set, std::optional<std::int64_t> samples) {
  const std::filesystem::path file = set.substr(ids_scheme.size());
  CalibrationSet result;
  result.windows = read_id_lines(file);
  if (samples && static_cast<std::int64_t>(result.windows.size()) > *samples)
    result.windows.resize(static_cast<std::size_t>(*samples));
  result.manifest.set = std::string(ids_scheme) + file.filename().string();
  result.manifest.sources.push_back(describe(file, file.filename().string()));
  result.manifest.packing = "one window a line, as given";
  return result;
}

CalibrationSet take_set(const CalibrationRequest& request, const Tokenizer* tokenizer) {
  check(tokenizer != nullptr, "calibration set '{}' needs a tokenizer", request.set);
  WindowRule rule{request.samples.value_or(default_samples), request.seqlen, request.seed, request.sampling};
  CalibrationSet set;
  if (request.set == "nonsense") {
    set = nonsense_set(*tokenizer, rule);
  } else {
    const Corpus corpus =
        open_corpus(request.set, request.data, has_questions(request.set) ? request.format : std::string());
    rule.samples = request.samples.value_or(corpus.samples);
    if (rule.sampling == Sampling::automatic) rule.sampling = corpus.sampling;
    set = pack(corpus, *tokenizer, rule);
  }
  set.manifest.seed = request.seed;
  set.manifest.samples = rule.samples;
  return set;
}

void count_tokens(CalibrationSet& set) {
  CalibrationManifest& m = set.manifest;
  Ids all;
  for (const Ids& window : set.windows) {
    all.insert(all.end(), window.begin(), window.end());
    m.seqlen = std::max(m.seqlen, static_cast<std::int64_t>(window.size()));
  }
  m.windows = static_cast<std::int64_t>(set.windows.size());
  m.tokens = static_cast<std::int64_t>(all.size());
  m.ids_sha256 = ids_sha256(all);
  std::sort(all.begin(), all.end());
  m.unique_tokens = std::unique(all.begin(), all.end()) - all.begin();
}

CalibrationSet take_mixture(const std::vector<MixturePart>& parts, const CalibrationRequest& request,
                            const Tokenizer* tokenizer) {
  CalibrationSet mixture;
  CalibrationManifest& m = mixture.manifest;
  m.set = request.set;
  m.packing = "windows of the parts, each part spread evenly";
  m.samples = request.samples.value_or(default_samples);
  const std::vector<std::int64_t> shares = apportion(parts, m.samples);
  std::vector<std::vector<Ids>> windows;
  std::vector<std::int64_t> counts;
  for (std::size_t p = 0; p < parts.size(); ++p) {
    CalibrationRequest part = request;
    part.set = parts[p].set;
    part.samples = shares[p];
    CalibrationSet set = is_ids(part.set) ? take_ids(part.set, part.samples) : take_set(part, tokenizer);
    count_tokens(set);
    set.manifest.weight = parts[p].weight;
    m.notes.insert(m.notes.end(), set.manifest.notes.begin(), set.manifest.notes.end());
    m.parts.push_back(std::move(set.manifest));
    mixture.text += set.text;
    counts.push_back(static_cast<std::int64_t>(set.windows.size()));
    windows.push_back(std::move(set.windows));
  }
  std::vector<std::size_t> next(parts.size(), 0);
  for (const std::size_t p : interleave(counts)) mixture.windows.push_back(std::move(windows[p][next[p]++]));
  return mixture;
}

void check_request(const CalibrationRequest& r, const std::vector<MixturePart>& parts) {
  constexpr std::int64_t most = std::int64_t{1} << 30;
  const std::int64_t samples = r.samples.value_or(1);
  require(samples >= 1 && samples <= most, Exit::usage, "--samples must be 1 to {}, not {}", most, samples);
  require(r.seqlen >= 1 && r.seqlen <= most, Exit::usage, "--seqlen must be 1 to {}, not {}", most, r.seqlen);
  const bool questions = has_questions(r.set) ||
                         std::any_of(parts.begin(), parts.end(), [](const auto& p) { return has_questions(p.set); });
  require(r.format.empty() || questions, Exit::usage,
          "--calibration-format is for sets of questions (arc, piqa), not for '{}'", printable(r.set));
}

nlohmann::json request_json(const CalibrationRequest& r) {
  nlohmann::json json = {{"set", r.set}};
  if (is_ids(r.set)) return json;
  json.update({{"seqlen", r.seqlen}, {"seed", r.seed}, {"sampling", name_of(r.sampling)}});
  if (r.samples) json["samples"] = *r.samples;
  if (!r.format.empty()) json["format"] = r.format;
  return json;
}

}  // namespace

bool needs_tokenizer(const std::string& set) {
  const auto parts = parse_mixture(set);
  if (parts.empty()) return !is_ids(set);
  return std::any_of(parts.begin(), parts.end(), [](const MixturePart& part) { return !is_ids(part.set); });
}

CalibrationSet build_calibration(const CalibrationRequest& request, const Tokenizer* tokenizer) {
  const auto parts = parse_mixture(request.set);
  check_request(request, parts);
  CalibrationSet set = !parts.empty()        ? take_mixture(parts, request, tokenizer)
                       : is_ids(request.set) ? take_ids(request.set, {})
                                             : take_set(request, tokenizer);
  count_tokens(set);
  if (tokenizer && needs_tokenizer(request.set)) {
    set.manifest.tokenizer = tokenizer->description();
    set.manifest.tokenizer_sha256 = tokenizer_sha256(*tokenizer);
  }
  set.manifest.request = request_json(request).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return set;
}

const char* name_of(Sampling sampling) { return sampling_names.at(static_cast<std::size_t>(sampling)).data(); }

std::optional<Sampling> find_sampling(const std::string& name) {
  const auto* found = std::find(sampling_names.begin(), sampling_names.end(), name);
  if (found == sampling_names.end()) return {};
  return static_cast<Sampling>(found - sampling_names.begin());
}

}  // namespace ptq

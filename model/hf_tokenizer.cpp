#include "model/hf_tokenizer.h"

#include "host/error.h"
#include "model/utf8.h"

#include <algorithm>

namespace ptq {

HfTokenizer::HfTokenizer(Normalizer normalizer, PreTokenizer pre_tokenizer, BpeModel model, TokenDecoder decoder,
                         const std::vector<AddedToken>& added)
    : normalizer_(std::move(normalizer)),
      pre_tokenizer_(std::move(pre_tokenizer)),
      model_(std::move(model)),
      decoder_(std::move(decoder)),
      size_(model_.vocabulary().size()) {
  std::vector<AddedToken> raw, normalized;
  for (const AddedToken& token : added) {
    name(token.id, token.content);
    AddedToken searched = token;
    if (token.normalized) searched.content = normalizer_.apply(token.content);
    if (!searched.content.empty()) (token.normalized ? normalized : raw).push_back(std::move(searched));
  }
  raw_added_ = AddedTokens(std::move(raw));
  normalized_added_ = AddedTokens(std::move(normalized));
}

void HfTokenizer::name(std::int32_t id, std::string text) {
  names_[id] = std::move(text);
  size_ = std::max<std::int64_t>(size_, std::int64_t{id} + 1);
}

std::int32_t HfTokenizer::find(const std::string& text) const {
  for (const auto& [id, content] : names_) {
    if (content == text) return id;
  }
  return model_.vocabulary().find(text);
}

void HfTokenizer::set_specials(const TokenizerConfig& config, std::vector<std::int32_t> prefix,
                               const std::string& origin) {
  prefix_ = std::move(prefix);
  for (std::int32_t id : prefix_) {
    require(id >= 0 && id < size_, Exit::data, "{}: post_processor puts id {} in front, outside [0, {})", origin, id,
            size_);
  }
  const std::string bos = config.special_token("bos_token"), eos = config.special_token("eos_token");
  if (!bos.empty()) bos_ = find(bos);
  if (!eos.empty()) eos_ = find(eos);
  if (bos_ < 0 && prefix_.size() == 1) bos_ = prefix_[0];
  if (config.add_bos && !*config.add_bos) prefix_.clear();
  if (config.add_bos && *config.add_bos && prefix_.empty() && bos_ >= 0) prefix_ = {bos_};
  // Llama-3's first tokenizer.json lacks the template that later ones have; the model was trained with BOS.
  if (!config.add_bos && prefix_.empty() && bos == "<|begin_of_text|>" && bos_ >= 0) prefix_ = {bos_};
}

std::vector<std::int32_t> HfTokenizer::encode(std::string_view bytes) const {
  std::string repaired;
  const std::string_view text = repair_utf8(bytes, repaired);
  std::vector<std::int32_t> ids;
  PieceCache cache;
  for (const AddedTokens::Part& part : raw_added_.split(text)) {
    if (part.id >= 0) {
      ids.push_back(part.id);
      continue;
    }
    const bool first = part.text.data() == text.data();
    const std::string normal = normalizer_.empty() ? std::string() : normalizer_.apply(part.text);
    const std::string_view shown = normalizer_.empty() ? part.text : std::string_view(normal);
    for (const AddedTokens::Part& inner : normalized_added_.split(shown)) {
      if (inner.id >= 0) {
        ids.push_back(inner.id);
        continue;
      }
      const Pieces pieces = pre_tokenizer_.split(inner.text, first && inner.text.data() == shown.data());
      for (std::string_view piece : pieces.list) model_.encode(piece, cache, ids);
    }
  }
  return ids;
}

std::string HfTokenizer::decode(std::span<const std::int32_t> ids) const {
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (std::int32_t id : ids) {
    if (const auto named = names_.find(id); named != names_.end()) {
      tokens.push_back(named->second);
    } else if (model_.vocabulary().has(id)) {
      tokens.emplace_back(model_.vocabulary().text(id));
    }
  }
  return decoder_.decode(std::move(tokens));
}

std::string HfTokenizer::description() const {
  const BpeOptions& options = model_.options();
  return fmt::format("{} BPE, {} tokens, {} merges{}", options.byte_level ? "byte-level" : "character-level", size_,
                     model_.merges(), options.byte_fallback ? ", byte fallback" : "");
}

}  // namespace ptq

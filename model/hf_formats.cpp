#include "model/hf_formats.h"

#include "host/error.h"
#include "host/printable.h"
#include "model/hf_tokenizer.h"
#include "model/json_fields.h"
#include "model/tiktoken.h"
#include "model/tokenizer_json.h"

#include <set>

namespace ptq {

namespace {

using Json = nlohmann::json;

std::vector<AddedToken> added_tokens_of(const Json& root, const Vocabulary& vocabulary, const TokenizerConfig& config,
                                        const std::string& origin) {
  std::vector<AddedToken> tokens;
  std::set<std::string> contents;
  const auto list = root.find("added_tokens");
  if (list != root.end() && !list->is_null()) {
    require(list->is_array(), Exit::data, "{}: added_tokens is not a list", origin);
    for (const Json& entry : *list) {
      const std::string where = origin + ": added_tokens";
      AddedToken token =
          read_added_token(entry, JsonFields(entry, where).integer("id", 0, Vocabulary::id_limit - 1), where);
      require(contents.insert(token.content).second, Exit::data, "{}: \"{}\" occurs twice", where,
              printable(token.content));
      tokens.push_back(std::move(token));
    }
  }
  for (const AddedToken& token : config.added) {
    if (contents.insert(token.content).second) tokens.push_back(token);
  }
  // Special tokens of the configuration are literal even if the file lists them as ordinary entries.
  for (const auto& [role, content] : config.special) {
    const std::int32_t id = vocabulary.find(content);
    if (id >= 0 && contents.insert(content).second) tokens.push_back({.content = content, .id = id});
  }
  return tokens;
}

std::int32_t token_id(const Json& id, const std::string& origin) {
  require(id.is_number_integer() && id >= 0 && id < Vocabulary::id_limit, Exit::data,
          "{}: a token id is not in [0, {})", origin, Vocabulary::id_limit);
  return id.get<std::int32_t>();
}

// Ids that a post-processor puts in front of a text.
std::vector<std::int32_t> prefix_of(const Json& spec, const std::string& origin) {
  if (spec.is_null()) return {};
  const JsonFields fields(spec, origin);
  const std::string type = fields.text("type", "absent");
  if (type == "ByteLevel") return {};
  std::vector<std::int32_t> prefix;
  if (type == "Sequence") {
    const Json* list = fields.find("processors");
    require(list != nullptr && list->is_array(), Exit::data, "{}: a Sequence needs the list processors", origin);
    for (const Json& inner : *list) {
      const std::vector<std::int32_t> ids = prefix_of(inner, origin);
      prefix.insert(prefix.begin(), ids.begin(), ids.end());
    }
    return prefix;
  }
  if (type == "RobertaProcessing" || type == "BertProcessing") {
    const Json* cls = fields.find("cls");
    require(cls != nullptr && cls->is_array() && cls->size() == 2, Exit::data, "{}: cls is not a token and its id",
            origin);
    return {token_id((*cls)[1], origin)};
  }
  require(type == "TemplateProcessing", Exit::data, "{}: post-processor type \"{}\" is not supported", origin,
          printable(type));
  const Json* single = fields.find("single");
  require(single != nullptr && single->is_array(), Exit::data, "{}: a template needs the list single", origin);
  const JsonFields special = fields.object("special_tokens");
  for (const Json& item : *single) {
    const JsonFields piece(item, origin + ": single");
    if (!piece.has("SpecialToken")) break;
    const std::string name = piece.object("SpecialToken").text("id", "");
    const Json* ids = special.object(name.c_str()).find("ids");
    require(ids != nullptr && ids->is_array(), Exit::data, "{}: special token \"{}\" has no ids", origin,
            printable(name));
    for (const Json& id : *ids) prefix.push_back(token_id(id, origin));
  }
  return prefix;
}

BpeOptions options_of(const JsonFields& model, const Vocabulary& vocabulary, bool byte_level) {
  const std::string type = model.text("type", "BPE");
  require(type == "BPE", Exit::data, "{}: model type \"{}\" is not supported (BPE is)", model.where(), printable(type));
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    require(model.text(key, "").empty(), Exit::data, "{}: {} is not supported", model.where(), key);
  }
  require(model.number("dropout", 0.0) == 0.0, Exit::data, "{}: dropout is not supported", model.where());
  BpeOptions options{.fuse_unknown = model.boolean("fuse_unk", false),
                     .byte_fallback = model.boolean("byte_fallback", false),
                     .ignore_merges = model.boolean("ignore_merges", false),
                     .byte_level = byte_level};
  if (model.has("unk_token")) {
    const std::string unknown = model.text("unk_token", "");
    options.unknown = vocabulary.find(unknown);
    require(options.unknown >= 0, Exit::data, "{}: unk_token \"{}\" is not in the vocabulary", model.where(),
            printable(unknown));
  }
  return options;
}

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer_json(const std::filesystem::path& path, const TokenizerConfig& config) {
  const std::string origin = path.string();
  TokenizerJson file = read_tokenizer_json(path);
  const JsonFields root(file.rest, origin);
  const auto part = [&](const char* key) -> const Json& {
    static const Json none;
    const Json* found = root.find(key);
    return found == nullptr ? none : *found;
  };
  PreTokenizer pre_tokenizer(part("pre_tokenizer"), origin);
  Normalizer normalizer(part("normalizer"), origin);
  require(normalizer.keeps_places() || !pre_tokenizer.looks_at_start(), Exit::data,
          "{}: prepend_scheme \"first\" after a normalizer that inserts or removes characters is not supported",
          origin);
  const JsonFields model = root.object("model");
  const BpeOptions options = options_of(model, file.vocabulary, pre_tokenizer.is_byte_level());
  require(file.vocabulary.size() > 0, Exit::data, "{}: model.vocab is missing or empty", origin);
  const std::vector<AddedToken> added = added_tokens_of(file.rest, file.vocabulary, config, origin);
  auto tokenizer = std::make_unique<HfTokenizer>(std::move(normalizer), std::move(pre_tokenizer),
                                                 BpeModel(std::move(file.vocabulary), file.merges, options, origin),
                                                 TokenDecoder(part("decoder"), origin), added);
  tokenizer->set_specials(config, prefix_of(part("post_processor"), origin + ": post_processor"), origin);
  return tokenizer;
}

std::unique_ptr<Tokenizer> load_gpt2_tokenizer(const std::filesystem::path& directory, const TokenizerConfig& config) {
  const std::string origin = (directory / "merges.txt").string();
  Vocabulary vocabulary = read_vocab_json(directory / "vocab.json");
  const MergeList merges = read_merges_txt(directory / "merges.txt");
  TokenizerConfig specials = config;
  if (config.special.empty()) {
    if (vocabulary.find("<s>") == 0 && vocabulary.find("<pad>") == 1 && vocabulary.find("</s>") == 2) {
      specials.special = {{"bos_token", "</s>"}, {"eos_token", "</s>"}, {"pad_token", "<pad>"}};
      if (!config.add_bos) specials.add_bos = true;
    } else if (vocabulary.find("<|endoftext|>") >= 0) {
      specials.special = {{"bos_token", "<|endoftext|>"}, {"eos_token", "<|endoftext|>"}};
    }
  }
  const std::vector<AddedToken> added = added_tokens_of(Json::object(), vocabulary, specials, origin);
  const BpeOptions options{.byte_level = true};
  auto tokenizer = std::make_unique<HfTokenizer>(
      Normalizer(), PreTokenizer::byte_level(gpt2_pattern, config.add_prefix_space.value_or(false)),
      BpeModel(std::move(vocabulary), merges, options, origin), TokenDecoder::byte_level(), added);
  tokenizer->set_specials(specials, {}, origin);
  return tokenizer;
}

std::unique_ptr<Tokenizer> make_tiktoken_tokenizer(std::string_view bytes, const std::string& origin,
                                                   const TokenizerConfig& config) {
  TiktokenFile file = read_tiktoken(bytes, origin);
  const auto ranks = static_cast<std::int32_t>(file.vocabulary.size());
  const BpeOptions options{.ignore_merges = true, .byte_level = true, .rank_by_result = true};
  auto tokenizer = std::make_unique<HfTokenizer>(Normalizer(), PreTokenizer::byte_level(llama3_pattern, false),
                                                 BpeModel(std::move(file.vocabulary), file.merges, options, origin),
                                                 TokenDecoder::byte_level(), config.added);
  for (std::int32_t i = 0; i < llama3_specials; ++i) tokenizer->name(ranks + i, llama3_special(i));
  TokenizerConfig specials = config;
  specials.special.try_emplace("bos_token", llama3_special(0));
  specials.special.try_emplace("eos_token", llama3_special(1));
  tokenizer->set_specials(specials, {}, origin);
  return tokenizer;
}

}  // namespace ptq

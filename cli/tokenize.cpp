#include "cli/options.h"

#include "data/ids.h"
#include "host/files.h"
#include "model/tokenizer.h"

namespace ptq {

namespace {

struct TokenizeOptions {
  std::string model, text, file;
  bool special = false, hash = false;
};

void run(const TokenizeOptions& o, bool has_text) {
  const auto tokenizer = load_tokenizer(resolve_model(o.model));
  const std::string text = has_text ? o.text : read_file(o.file, "text");
  std::vector<std::int32_t> ids = tokenizer->encode(text);
  if (o.special) {
    const auto prefix = tokenizer->prefix();
    ids.insert(ids.begin(), prefix.begin(), prefix.end());
  }
  if (o.hash) {
    fmt::print("{} {}\n", ids.size(), ids_sha256(ids));
  } else {
    fmt::print("{}\n", fmt::join(ids, " "));
  }
}

}  // namespace

void add_tokenize(CLI::App& app, GlobalOptions&) {
  auto* command = app.add_subcommand("tokenize", "Token ids of a text, on one line, without BOS");
  command->footer("Example: ptq tokenize models/SmolLM2-135M --text 'Hello world'");
  auto o = std::make_shared<TokenizeOptions>();
  command->add_option("MODEL", o->model, "model or tokenizer directory")->required();
  auto* text = command->add_option("--text", o->text, "the text");
  auto* file = command->add_option("--file", o->file, "a file, its bytes exactly");
  text->excludes(file);
  command->add_flag("--special", o->special, "prepend what the tokenizer adds by default (BOS)");
  command->add_flag("--hash", o->hash, "print the count and the sha256 of the ids as little-endian int32");
  command->callback([o, text, file] {
    require(text->count() + file->count() == 1, Exit::usage, "tokenize: give --text S or --file F");
    run(*o, text->count() == 1);
  });
}

}  // namespace ptq

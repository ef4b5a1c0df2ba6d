#include "cli/calibration_options.h"
#include "data/replay.h"
#include "host/files.h"
#include "host/printable.h"

#include <nlohmann/json.hpp>

namespace ptq {

namespace {

struct Options {
  CalibrationOptions set_options;
  std::string set, model, out, replay;
  bool list = false;
};

// FILE holds the windows, one a line; the manifest (and a generated text) lie beside it.
void write_set(const CalibrationSet& set, const std::string& out) {
  std::string lines;
  for (const auto& window : set.windows) lines += fmt::format("{}\n", fmt::join(window, " "));
  write_file(out, lines);
  write_file(out + ".json", manifest_json(set.manifest).dump(2) + "\n");
  if (!set.text.empty()) write_file(out + ".txt", set.text);
}

void list_sets(const std::filesystem::path& data) {
  for (const NamedSet& set : named_sets()) {
    const std::vector<std::string> found = set.found(data);
    const std::string notation = set.argument.empty() ? set.name : set.name + ":" + set.argument;
    std::string state = "not there";
    if (!found.empty() && set.argument.empty()) state = fmt::format("{}", fmt::join(found, ", "));
    if (!found.empty() && !set.argument.empty())
      state = fmt::format("{} names; ptq calibration {} --list prints them", found.size(), set.name);
    fmt::print("{:<15} {:<48} {}\n", notation, set.what, state);
  }
  fmt::print("{:<15} {:<48} {}\n", "FILE, DIR", "text or JSON Lines with a \"text\" member", "any path");
  fmt::print("{:<15} {:<48} {}\n", "ids:FILE", "windows of token ids, one a line", "any path");
  fmt::print("{:<15} {:<48} {}\n", "A:0.5+B:0.5", "mixture of sets", "");
  if (data.empty()) fmt::print(stderr, "ptq: note: no data directory; give --data DIR or PTQ_DATA\n");
}

void list_names(const std::string& name, const std::filesystem::path& data) {
  for (const NamedSet& set : named_sets()) {
    if (set.name != name) continue;
    for (const std::string& found : set.found(data))
      fmt::print("{}\n", set.argument.empty() ? found : set.name + ":" + found);
    return;
  }
  fail(Exit::missing, "calibration --list: '{}' is not a set; without a name it lists them all", printable(name));
}

std::filesystem::path tokenizer_directory(const std::string& set, const std::string& model) {
  if (!needs_tokenizer(set)) return {};
  require(!model.empty(), Exit::usage, "calibration: {} needs a tokenizer; give --model MODEL", printable(set));
  return resolve_model(model);
}

CalibrationSet replayed(const Options& o, const GlobalOptions& global) {
  const nlohmann::json manifest = read_manifest(o.replay);
  const CalibrationRequest request = replay_request(manifest, global.data_directory(), o.replay);
  CalibrationSet set = load_calibration(request, tokenizer_directory(request.set, o.model));
  verify_replay(manifest, set.manifest, o.replay);
  fmt::print(stderr, "ptq: note: the ids are those of {}\n", o.replay);
  return set;
}

void run(const Options& o, const GlobalOptions& global) {
  if (o.list) return o.set.empty() ? list_sets(global.data_directory()) : list_names(o.set, global.data_directory());
  require(o.set.empty() != o.replay.empty(), Exit::usage,
          "calibration: give a SET, or --replay FILE.json, or --list to see what there is");
  const CalibrationSet set = o.replay.empty()
                                 ? load_calibration(o.set, o.set_options, tokenizer_directory(o.set, o.model), global)
                                 : replayed(o, global);
  if (!o.out.empty()) write_set(set, o.out);
  fmt::print("{}\n", manifest_json(set.manifest).dump(2));
}

}  // namespace

void add_calibration(CLI::App& app, GlobalOptions& global) {
  auto* command = app.add_subcommand("calibration", "Builds a calibration set and prints its manifest");
  command->footer(
      "SET: redpajama, c4, wikitext2, nonsense, arc, piqa, flores:LANG, miniature:NAME, a text or JSONL file, a "
      "directory of them, ids:FILE (one window of ids a line), or a mixture A:0.5+B:0.5 of these.\n"
      "Example: ptq calibration c4 --model models/SmolLM2-135M --samples 16 --seqlen 512 --out c4.ids\n"
      "         ptq quantize models/SmolLM2-135M out --method gptq --calibration ids:c4.ids\n"
      "         ptq calibration flores:eng_Latn:0.75+nonsense:0.25 --model models/SmolLM2-135M\n"
      "         ptq calibration --replay c4.ids.json --model models/SmolLM2-135M");
  auto o = std::make_shared<Options>();
  command->add_option("SET", o->set, "calibration set");
  command->add_option("--model", o->model, "model or tokenizer directory");
  command->add_option("--out", o->out, "write the windows here, the manifest beside it as FILE.json");
  auto* replay = command->add_option("--replay", o->replay,
                                     "build the set of this manifest again and check that its ids are the same");
  auto* list = command->add_flag("--list", o->list, "what there is below --data; with flores or miniature its names");
  list->excludes(replay);
  add_calibration_options(*command, o->set_options);
  for (const char* option : {"--samples", "--seqlen", "--sampling", "--calibration-format"})
    replay->excludes(command->get_option(option));
  command->callback([o, &global] { run(*o, global); });
}

}  // namespace ptq

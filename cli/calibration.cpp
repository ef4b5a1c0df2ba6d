#include "cli/calibration_options.h"
#include "host/files.h"

#include <nlohmann/json.hpp>

namespace ptq {

void add_calibration_options(CLI::App& command, CalibrationOptions& o) {
  command.add_option("--samples", o.samples, "windows of the calibration set, at most")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 20))
      ->capture_default_str();
  command.add_option("--seqlen", o.seqlen, "tokens of a calibration window")
      ->check(CLI::Range(std::int64_t{2}, std::int64_t{1} << 20))
      ->capture_default_str();
  command.add_option("--sampling", o.sampling, "consecutive windows, or the original GPTQ script's random ones")
      ->check(CLI::IsMember({"consecutive", "gptq"}))
      ->capture_default_str();
}

CalibrationSet load_calibration(const std::string& set, const CalibrationOptions& o, const std::filesystem::path& model,
                                const GlobalOptions& global) {
  const CalibrationRequest request{.set = set,
                                   .samples = o.samples,
                                   .seqlen = o.seqlen,
                                   .seed = global.seed,
                                   .sampling = o.sampling == "gptq" ? Sampling::gptq : Sampling::consecutive,
                                   .data = global.data_directory()};
  std::unique_ptr<Tokenizer> tokenizer;
  if (needs_tokenizer(set)) tokenizer = load_tokenizer(model);
  CalibrationSet built = build_calibration(request, tokenizer.get());
  for (const std::string& note : built.manifest.notes) fmt::print(stderr, "ptq: note: {}\n", note);
  return built;
}

namespace {

struct Options {
  CalibrationOptions set_options;
  std::string set, model, out;
};

// FILE holds the windows, one a line; the manifest (and a generated text) lie beside it.
void write_set(const CalibrationSet& set, const std::string& out) {
  std::string lines;
  for (const auto& window : set.windows) lines += fmt::format("{}\n", fmt::join(window, " "));
  write_file(out, lines);
  write_file(out + ".json", manifest_json(set.manifest).dump(2) + "\n");
  if (!set.text.empty()) write_file(out + ".txt", set.text);
}

void run(const Options& o, const GlobalOptions& global) {
  std::filesystem::path model;
  if (needs_tokenizer(o.set)) {
    require(!o.model.empty(), Exit::usage, "calibration: {} needs a tokenizer; give --model MODEL", o.set);
    model = resolve_model(o.model);
  }
  const CalibrationSet set = load_calibration(o.set, o.set_options, model, global);
  if (!o.out.empty()) write_set(set, o.out);
  fmt::print("{}\n", manifest_json(set.manifest).dump(2));
}

}  // namespace

void add_calibration(CLI::App& app, GlobalOptions& global) {
  auto* command = app.add_subcommand("calibration", "Builds a calibration set and prints its manifest");
  command->footer(
      "SET: wikitext2, c4, nonsense, a text or JSONL file, or ids:FILE (one window of ids a line).\n"
      "Example: ptq calibration c4 --model models/SmolLM2-135M --samples 16 --seqlen 512 --out c4.ids\n"
      "         ptq quantize models/SmolLM2-135M out --method gptq --calibration ids:c4.ids");
  auto o = std::make_shared<Options>();
  command->add_option("SET", o->set, "calibration set")->required();
  command->add_option("--model", o->model, "model or tokenizer directory");
  command->add_option("--out", o->out, "write the windows here, the manifest beside it as FILE.json");
  add_calibration_options(*command, o->set_options);
  command->callback([o, &global] { run(*o, global); });
}

}  // namespace ptq

#include "cli/calibration_options.h"

namespace ptq {

void add_calibration_options(CLI::App& command, CalibrationOptions& o) {
  command.add_option("--samples", o.samples, "windows of the calibration set, at most (default: 128; flores 32)")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 20));
  command.add_option("--seqlen", o.seqlen, "tokens of a calibration window")
      ->check(CLI::Range(std::int64_t{2}, std::int64_t{1} << 20))
      ->capture_default_str();
  command
      .add_option("--sampling", o.sampling,
                  "consecutive windows from the start; gptq: random windows of random documents; awq: blocks of "
                  "shuffled short documents, of which --samples are taken; auto: gptq for redpajama, else consecutive")
      ->check(CLI::IsMember({"auto", "consecutive", "gptq", "awq"}))
      ->capture_default_str();
  command
      .add_option("--calibration-format", o.format,
                  "arc and piqa: qa, questions with the right answer (default); answers; all-choices, each question "
                  "once with every choice")
      ->check(CLI::IsMember(question_formats()));
}

CalibrationSet load_calibration(const std::string& set, const CalibrationOptions& o, const std::filesystem::path& model,
                                const GlobalOptions& global) {
  return load_calibration({.set = set,
                           .samples = o.samples,
                           .seqlen = o.seqlen,
                           .seed = global.seed,
                           .sampling = find_sampling(o.sampling).value(),  // checked when parsed
                           .format = o.format,
                           .data = global.data_directory()},
                          model);
}

CalibrationSet load_calibration(const CalibrationRequest& request, const std::filesystem::path& model) {
  std::unique_ptr<Tokenizer> tokenizer;
  if (needs_tokenizer(request.set)) tokenizer = load_tokenizer(model);
  CalibrationSet built = build_calibration(request, tokenizer.get());
  for (const std::string& note : built.manifest.notes) fmt::print(stderr, "ptq: note: {}\n", note);
  return built;
}

}  // namespace ptq

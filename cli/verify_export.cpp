#include "eval/verify_export.h"
#include "cli/model_options.h"
#include "cli/progress.h"
#include "data/ids.h"

#include <nlohmann/json.hpp>

namespace ptq {

namespace {

struct Options {
  std::string directory, against, ids;
  int windows = 4;
  std::int64_t length = 64;
  bool json = false;
};

void print(const VerifyReport& r, const std::string& format) {
  fmt::print(
      "format      {}; {}\n", format,
      r.same_run ? "against the fake checkpoint of the same run: judged" : "against another model: reported only");
  fmt::print("weights     {} tensors, ||a - b||^2 / ||b||^2 = {:.3g}", r.weights.tensors, r.weights.relative_error);
  if (r.same_run) fmt::print(", {:.3g} of what rounding explains", r.weights.rounding_used);
  fmt::print("\nlogits      {} positions, max {:.4g}, rms {:.4g}, relative {:.3g}", r.logits.positions, r.logits.max,
             r.logits.rms, r.logits.relative_rms);
  if (r.logit_bound > 0.0) fmt::print(" (bound {:.3g})", r.logit_bound);
  fmt::print("\nprediction  top-1 agreement {:.2f} %, KL {:.3g} nats\n", 100.0 * r.logits.top1_agreement, r.logits.kld);
}

void run(const Options& o, const GlobalOptions& global) {
  const auto directory = resolve_model(o.directory), other = resolve_model(o.against);
  const ModelConfig config = read_config(directory);
  const auto sequences = o.ids.empty()
                             ? random_windows(config, o.windows, std::min(o.length, config.max_position), global.seed)
                             : read_id_lines(o.ids);
  require(!sequences.empty(), Exit::data, "{}: no token ids in it", o.ids);
  RunSize size = one_by_one(sequences);
  size.share = 0.5;
  const auto ops = global.open_device();
  const auto exported_model = load_model(directory, "exact", *ops, global.compute_dtype(), size);
  size.share = 1.0;
  const auto other_model = load_model(other, "exact", *ops, global.compute_dtype(), size);
  const ModelFiles &exported = exported_model->files(), &against = other_model->files();

  VerifyReport report;
  report.same_run = same_run(exported, against);
  report.weights = compare_weights(exported, against, report.same_run);
  // Codes of activations that flip to their neighbours are not small perturbations: those logits are only reported.
  if (report.same_run && !exported_model->activations()) report.logit_bound = logit_bound(config, config.stored_dtype);
  report.logits = compare_logits(*exported_model, *other_model, sequences);
  if (o.json) {
    fmt::print("{}\n", to_json(report).dump(2));
  } else {
    print(report, std::string(name_of(exported.packed().format)));
  }
  require_consistent(report);
}

}  // namespace

void add_verify_export(CLI::App& app, GlobalOptions& global) {
  auto* command = app.add_subcommand("verify-export", "Reloads an exported checkpoint and compares it with a model");
  command->footer(
      "Against the --format fake output of the same run (same source, method, parameters and calibration), every "
      "weight "
      "must equal the\nfake one up to the rounding of its stored scale, |c - z| u s, everything else up to the "
      "rounding "
      "of both types, and logits up to\n8 u sqrt(4 layers) of their rms (u = 2^-11 for float16, 2^-8 for bfloat16); "
      "else the exit code is 76. Logits are not judged if\nactivations are quantized, and nothing is judged against "
      "another model: the distance is printed.\n"
      "Example: ptq quantize M out/fake --method gptq --calibration c4; the same with --format gptq into out/gptq;\n"
      "         ptq verify-export out/gptq --against out/fake");
  auto o = std::make_shared<Options>();
  command->add_option("DIR", o->directory, "the exported checkpoint")->required();
  command->add_option("--against", o->against, "the fake checkpoint of the same run, or any model of the same shape")
      ->required();
  command->add_option("--ids", o->ids,
                      "file with one sequence of token ids per line; without it ids are random (--seed)");
  command->add_option("--windows", o->windows, "random sequences")->check(CLI::Range(1, 1024))->capture_default_str();
  command->add_option("--length", o->length, "tokens of each")->check(CLI::Range(1, 1 << 20))->capture_default_str();
  command->add_flag("--json", o->json, "JSON on standard output");
  command->callback([o, &global] { run(*o, global); });
}

}  // namespace ptq

#include "cli/calibration_options.h"
#include "cli/progress.h"
#include "cli/quant_options.h"
#include "host/files.h"
#include "quant/fake_checkpoint.h"

#include <nlohmann/json.hpp>

namespace ptq {

namespace {

struct Options {
  std::string model, output, calibration, format = "fake";
  bool force = false;
  QuantOptions quant;
  CalibrationOptions set;
};

void print_report(const QuantSpec& spec, const QuantizeReport& r, const std::string& output) {
  const Seconds& s = r.seconds;
  fmt::print("{} {} {} linears: error {:.6g}, {} dead columns, {} retried, {} rounded to nearest instead\n",
             name_of(spec.method), scheme_name(spec), r.linears.size(), r.error(), r.dead_columns(), r.retried(),
             r.fell_back());
  fmt::print("{:.1f} s: load {:.1f}, forward {:.1f}, Hessian {:.1f}, factor {:.1f}, sweep {:.1f}, write {:.1f}\n",
             s.total(), s.load, s.forward, s.hessian, s.factor, s.sweep, s.write);
  fmt::print("{} (peak memory {} MiB)\n", output, peak_memory() >> 20);
}

void run(const Options& o, const GlobalOptions& global) {
  const QuantSpec spec = o.quant.spec();
  const bool calibrated = needs_calibration(spec.method);
  require(!calibrated || !o.calibration.empty(), Exit::usage, "quantize: {} needs --calibration SET",
          name_of(spec.method));
  require(calibrated || o.calibration.empty(), Exit::usage, "quantize: --calibration does not apply to {}",
          name_of(spec.method));
  const auto model = resolve_model(o.model);
  const auto ops = global.open_device();

  CalibrationSet set;
  nlohmann::json manifest;
  if (calibrated) {
    set = load_calibration(o.calibration, o.set, model, global);
    manifest = manifest_json(set.manifest);
  }
  Progress progress(progress_mode(global.progress));
  const QuantizeJob job{
      .model = model, .output = o.output, .force = o.force, .spec = spec, .dtype = global.compute_dtype()};
  const QuantizeReport report = quantize_checkpoint(
      *ops, job, set.windows, manifest,
      [&](const std::string& what, std::int64_t done, std::int64_t total) { progress.update(what, done, total); });
  progress.finish();
  print_report(spec, report, o.output);
}

}  // namespace

void add_quantize(CLI::App& app, GlobalOptions& global) {
  auto* command = app.add_subcommand("quantize", "Quantizes a model's linears and writes a checkpoint");
  command->footer(
      "OUT holds dequantized weights that any Hugging Face loader runs, and ptq.json: parameters, calibration, "
      "health.\n"
      "Example: ptq quantize models/SmolLM2-135M out/gptq --method gptq --bits 4 --group 64 --calibration c4");
  auto o = std::make_shared<Options>();
  command->add_option("MODEL", o->model, "model directory")->required();
  command->add_option("OUT", o->output, "directory to write; it appears complete or not at all")->required();
  add_quant_options(*command, o->quant);
  command->add_option("--calibration", o->calibration, "calibration set (see ptq calibration --help)");
  add_calibration_options(*command, o->set);
  command->add_option("--format", o->format, "fake: dequantized weights in --dtype")
      ->check(CLI::IsMember({"fake"}))
      ->capture_default_str();
  command->add_flag("--force", o->force, "replace OUT if ptq wrote it");
  command->callback([o, &global] { run(*o, global); });
}

}  // namespace ptq

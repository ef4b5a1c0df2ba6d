#include "cli/calibration_options.h"
#include "cli/progress.h"
#include "cli/quant_options.h"
#include "host/files.h"
#include "quant/quantize_checkpoint.h"

#include <nlohmann/json.hpp>

namespace ptq {

namespace {

struct Options {
  std::string model, output, calibration, format = "fake";
  bool force = false;
  QuantOptions quant;
  CalibrationOptions set;
};

std::uintmax_t weight_bytes(const std::filesystem::path& directory) {
  std::uintmax_t bytes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    if (entry.path().extension() == ".safetensors") bytes += entry.file_size();
  }
  return bytes;
}

void print_report(const QuantizeJob& job, const QuantizeReport& r) {
  const Seconds& s = r.seconds;
  const std::string alpha = r.alpha ? fmt::format(" alpha {}", *r.alpha) : "";
  fmt::print("{}{} {} {} linears: error {:.6g}, {} dead columns, {} retried, {} rounded to nearest instead\n",
             name_of(job.spec.method), alpha, scheme_name(job.spec), r.linears.size(), r.error(), r.dead_columns(),
             r.retried(), r.fell_back());
  fmt::print(
      "{:.1f} s: load {:.1f}, forward {:.1f}, Hessian {:.1f}, factor {:.1f}, search {:.1f}, sweep {:.1f}, write "
      "{:.1f}\n",
      s.total(), s.load, s.forward, s.hessian, s.factor, s.search, s.sweep, s.write);
  fmt::print("{}: format {}, {:.1f} MiB, the scheme takes {:.3f} bits per weight (peak memory {} MiB)\n",
             job.output.string(), name_of(job.format), static_cast<double>(weight_bytes(job.output)) / (1 << 20),
             r.bits_per_weight, peak_memory() >> 20);
}

void run(const Options& o, const GlobalOptions& global) {
  QuantizeJob job{.model = {},
                  .output = o.output,
                  .force = o.force,
                  .spec = o.quant.spec(),
                  .dtype = global.compute_dtype(),
                  .format = parse_export_format(o.format)};
  const bool calibrated = needs_calibration(job.spec);
  const std::string what = fmt::format("{} {}", name_of(job.spec.method), scheme_name(job.spec));
  require(!calibrated || !o.calibration.empty(), Exit::usage,
          "quantize: {} needs --calibration SET, such as --calibration c4", what);
  require(calibrated || o.calibration.empty(), Exit::usage, "quantize: --calibration does not apply to {}", what);
  job.model = resolve_model(o.model);
  const auto ops = global.open_device();

  CalibrationSet set;
  nlohmann::json manifest;
  if (calibrated) {
    set = load_calibration(o.calibration, o.set, job.model, global);
    manifest = manifest_json(set.manifest);
  }
  Progress progress(progress_mode(global.progress));
  const QuantizeReport report = quantize_checkpoint(
      *ops, job, set.windows, manifest,
      [&](const std::string& text, std::int64_t done, std::int64_t total) { progress.update(text, done, total); });
  progress.finish();
  print_report(job, report);
}

}  // namespace

void add_quantize(CLI::App& app, GlobalOptions& global) {
  auto* command = app.add_subcommand("quantize", "Quantizes a model's linears and writes a checkpoint");
  command->footer(
      "OUT holds the weights (fake: dequantized, for any Hugging Face loader; else packed integers) and ptq.json:\n"
      "parameters, calibration, health, and how activations are to be quantized while the model runs.\n"
      "Example: ptq quantize MODEL out/gptq --method gptq --bits 4 --group 64 --calibration c4 --format gptq\n"
      "         ptq quantize MODEL out/awq --method awq --scheme w4a16-g64-asym --calibration c4 --format awq\n"
      "         ptq quantize MODEL out/sq --method smoothquant --alpha 0.8 --calibration c4 --format "
      "compressed-tensors\n"
      "         ptq quantize MODEL out/int8 --method w8a8 --scheme w8a8-outliers6   (LLM.int8(); no calibration)\n"
      "         ptq quantize MODEL out/nf4 --method nf4 --double-quant              (no calibration)");
  auto o = std::make_shared<Options>();
  command->add_option("MODEL", o->model, "model directory")->required();
  command->add_option("OUT", o->output, "directory to write; it appears complete or not at all")->required();
  add_quant_options(*command, o->quant);
  command->add_option("--calibration", o->calibration, "calibration set (see ptq calibration --help)");
  add_calibration_options(*command, o->set);
  command
      ->add_option("--format", o->format,
                   "fake (dequantized weights in --dtype), gptq, gptq-v2, awq or compressed-tensors")
      ->capture_default_str();
  command->add_flag("--force", o->force, "replace OUT if ptq wrote it");
  command->callback([o, &global] { run(*o, global); });
}

}  // namespace ptq

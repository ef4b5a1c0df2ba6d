#include "cli/calibration_options.h"
#include "cli/progress.h"
#include "eval/activation_files.h"
#include "eval/activation_summary.h"
#include "host/files.h"
#include "quant/checkpoint_files.h"

#include <nlohmann/json.hpp>

namespace ptq {

namespace {

using Json = nlohmann::json;

struct Options {
  std::string model, calibration, out, side = "output";
  std::vector<std::string> merge, compare;
  ActivationSpec spec;
  CalibrationOptions set;
  bool json = false;
};

// "0.734 (layer 3, channel 17)"
std::string place(const Json& largest) {
  return fmt::format("{:.4g} (layer {}, channel {})", largest.at("value").get<double>(),
                     largest.at("layer").get<std::int64_t>(), largest.at("channel").get<std::int64_t>());
}

void print_summary(const ActivationStudy& study) {
  const Json summary = summary_json(study);
  fmt::print("{} layers, {} windows, {} tokens; {} of the attention projection (o) and the last MLP linear (down)\n",
             study.layers, study.windows, study.tokens, name_of(study.spec.side));
  for (const auto& [module, variants] : summary.items()) {
    for (const auto& [key, title] : {std::pair{"whole", "all positions"}, std::pair{"without_first", "without 0"}}) {
      const Json& v = variants.at(key);
      if (v.is_null()) continue;
      const Json& width = v.at("central_99_width");
      const std::string shown =
          width.is_null() ? "beyond a larger --range" : fmt::format("{:.4g}", width.get<double>());
      fmt::print("{:<5}{:<14}central 99 %: {} ({:.2g} % outside of the histogram)", module, title, shown,
                 100.0 * v.at("share_outside").get<double>());
      fmt::print("  largest mean {}  largest value {}\n", place(v.at("largest_mean")), place(v.at("largest_absmax")));
    }
  }
}

// Before the work: what is there already is never overwritten.
std::unique_ptr<OutputDirectory> open_output(const std::filesystem::path& directory) {
  std::error_code error;
  require(!std::filesystem::exists(directory, error) || std::filesystem::is_empty(directory, error), Exit::create,
          "{}: already there; choose another --out", directory.string());
  return std::make_unique<OutputDirectory>(directory, false, 0);
}

void finish(OutputDirectory& output, const StoredStudy& stored, const Options& o) {
  write_study(output, stored);
  if (o.json) {
    fmt::print("{}\n", summary_json(stored.study).dump(1));
  } else {
    print_summary(stored.study);
    fmt::print("{} (peak memory {} MiB)\n", o.out, peak_memory() >> 20);
  }
}

void study(const Options& o, const GlobalOptions& global) {
  const auto directory = resolve_model(o.model);
  ActivationSpec spec = o.spec;
  spec.side = parse_side(o.side);
  const auto ops = global.open_device();
  const auto output = open_output(o.out);
  const CalibrationSet set = load_calibration(o.calibration, o.set, directory, global);
  const auto files = std::make_shared<const ModelFiles>(ModelFiles::open(directory));
  const Transformer model(files, *ops, global.compute_dtype());

  Progress progress(progress_mode(global.progress));
  Seconds seconds;
  StoredStudy stored;
  stored.study = study_activations(
      model, set.windows, spec, seconds,
      [&](const std::string& what, std::int64_t done, std::int64_t total) { progress.update(what, done, total); });
  progress.finish();
  Json source = source_of(*files);
  source["family"] = files->config().family;
  stored.about = {{"model", std::move(source)},
                  {"compute", {{"dtype", global.dtype}, {"backend", ops->description()}}},
                  {"calibration", Json::array({manifest_json(set.manifest)})}};
  finish(*output, stored, o);
  if (!o.json) {
    fmt::print("{:.1f} s: load {:.1f}, forward {:.1f}, statistics {:.1f}\n", seconds.total(), seconds.load,
               seconds.forward, seconds.search);
  }
}

void merge(const Options& o) {
  const auto output = open_output(o.out);
  std::vector<StoredStudy> parts;
  for (const std::string& directory : o.merge) parts.push_back(read_study(directory));
  finish(*output, merged(parts), o);
}

void compare(const Options& o) {
  const Json json = comparison_json(read_study(o.compare.at(0)).study, read_study(o.compare.at(1)).study);
  if (o.json) {
    fmt::print("{}\n", json.dump(1));
    return;
  }
  fmt::print("Jaccard overlap of the 1 % largest channels, mean over layers (1: the same channels)\n");
  for (const auto& [module, variants] : json.items()) {
    for (const auto& [key, title] : {std::pair{"whole", "all positions"}, std::pair{"without_first", "without 0"}}) {
      const Json& v = variants.at(key);
      if (v.is_null()) continue;
      fmt::print("{:<5}{:<14}by |mean| {:.3f}  by largest |x| {:.3f}\n", module, title,
                 v.at("by_mean").at("mean").get<double>(), v.at("by_absmax").at("mean").get<double>());
    }
  }
}

void run(const Options& o, const GlobalOptions& global) {
  const bool fresh = o.merge.empty() && o.compare.empty();
  require(o.merge.empty() || o.compare.empty(), Exit::usage, "activations: --merge and --compare exclude each other");
  require(fresh != o.model.empty(), Exit::usage, "activations: {}",
          fresh ? "MODEL is missing" : "--merge and --compare read studies and take no MODEL");
  require(fresh != o.calibration.empty(), Exit::usage, "activations: {}",
          fresh ? "--calibration SET is missing" : "--calibration applies to a new study only");
  require(o.compare.empty() != o.out.empty(), Exit::usage, "activations: {}",
          o.compare.empty() ? "--out DIR is missing" : "--out does not apply to --compare");
  if (fresh) {
    study(o, global);
  } else if (!o.merge.empty()) {
    merge(o);
  } else {
    compare(o);
  }
}

}  // namespace

void add_activations(CLI::App& app, GlobalOptions& global) {
  auto* command = app.add_subcommand("activations", "Statistics of a model's activations, per layer and channel");
  command->footer(
      "Studies the attention output projection and the last MLP linear of every layer: moments, extremes and an exact\n"
      "histogram, with and without position 0 of the windows. DIR gets activations.safetensors and activations.json.\n"
      "Example: ptq activations models/SmolLM2-135M --calibration flores:eng_Latn --out studies/eng\n"
      "         ptq activations --merge studies/a studies/b --out studies/both\n"
      "         ptq activations --compare studies/eng studies/zho");
  auto o = std::make_shared<Options>();
  command->add_option("MODEL", o->model, "model directory");
  command->add_option("--calibration", o->calibration, "calibration set (see ptq calibration --help)");
  command->add_option("--out", o->out, "directory to write; it appears complete or not at all");
  command->add_option("--side", o->side, "of the two linears")
      ->check(CLI::IsMember({"output", "input"}))
      ->capture_default_str();
  command->add_option("--bins", o->spec.bins, "bins of the histogram")
      ->check(CLI::Range(std::int64_t{1}, max_histogram_bins))
      ->capture_default_str();
  command->add_option("--range", o->spec.range, "the histogram covers [-RANGE, RANGE)")->capture_default_str();
  add_calibration_options(*command, o->set);
  command->add_option("--merge", o->merge, "studies of the same model on different windows: write one of all windows");
  command->add_option("--compare", o->compare, "two studies: overlap of their largest channels")->expected(2);
  command->add_flag("--json", o->json, "print the summary or the comparison as JSON");
  command->callback([o, &global] { run(*o, global); });
}

}  // namespace ptq

#include "cli/options.h"
#include "cli/progress.h"
#include "quant/inject_checkpoint.h"

#include <set>

namespace ptq {

namespace {

struct Options {
  std::string model, output, at = "norm", layers;
  std::int64_t channels = 2;
  float scale = 32.0f, offset = 0.0f;
  bool force = false;
};

// "3", "2-5"
void parse_layers(const std::string& text, InjectSpec& spec) {
  if (text.empty()) return;
  const auto number = [&](const std::string& digits) {
    require(!digits.empty() && digits.size() < 7 && digits.find_first_not_of("0123456789") == std::string::npos,
            Exit::usage, "--layers '{}': a layer or a range, such as 0-3", text);
    return std::stoi(digits);
  };
  const auto dash = text.find('-');
  spec.first_layer = number(text.substr(0, dash));
  spec.last_layer = dash == std::string::npos ? spec.first_layer : number(text.substr(dash + 1));
}

// "norm: layers 0-29, channels 64 137", or how many there are where every layer has its own.
void print_place(const InjectPlan& plan, InjectPlace place) {
  std::vector<std::size_t> layers;
  std::set<std::vector<std::int64_t>> draws;
  for (std::size_t layer = 0; layer < plan.layers.size(); ++layer) {
    for (const InjectedChannels& c : plan.layers[layer]) {
      if (c.place != place) continue;
      layers.push_back(layer);
      draws.insert(c.channels);
    }
  }
  if (layers.empty()) return;
  std::string channels = "channels";
  for (const std::int64_t channel : *draws.begin()) channels += " " + std::to_string(channel);
  if (draws.size() > 1) channels = std::to_string(plan.spec.channels) + " channels of each, see ptq.json";
  fmt::print("{}: layers {}-{}, {}\n", name_of(place), layers.front(), layers.back(), channels);
}

void run(const Options& o, const GlobalOptions& global, bool dtype_given) {
  InjectJob job;
  job.model = resolve_model(o.model);
  job.output = o.output;
  job.force = o.force;
  job.spec.places = parse_places(o.at);
  job.spec.channels = o.channels;
  job.spec.scale = o.scale;
  job.spec.offset = o.offset;
  job.spec.seed = global.seed;
  parse_layers(o.layers, job.spec);
  if (dtype_given) job.dtype = global.compute_dtype();
  const auto ops = global.open_device();
  Progress progress(progress_mode(global.progress));
  const InjectReport report = inject_checkpoint(
      *ops, job,
      [&](const std::string& what, std::int64_t done, std::int64_t total) { progress.update(what, done, total); });
  progress.finish();

  for (const auto& [place, reason] : report.plan.skipped) {
    fmt::print("skipped {}: {}\n", name_of(place), reason);
  }
  for (InjectPlace place : job.spec.places) print_place(report.plan, place);
  fmt::print("{} ({}): the same function {}\n", o.output, name_of(report.dtype),
             report.exact ? "bit for bit in fp32" : "up to rounding");
}

}  // namespace

void add_inject(CLI::App& app, GlobalOptions& global) {
  auto* command = app.add_subcommand("inject-outliers", "Writes a model of the same function with outlier channels");
  command->footer(
      "A channel's values grow by S where they are made, the weights that read them shrink by S: predictions stay, "
      "the\n"
      "activations between have outliers. OUT holds the weights in their stored type, or in --dtype if it is given, "
      "and\n"
      "ptq.json with the channels. --seed chooses them.\n"
      "Example: ptq inject-outliers models/SmolLM2-135M out/outliers --channels 2 --scale 32 --seed 1");
  auto o = std::make_shared<Options>();
  command->add_option("MODEL", o->model, "model directory")->required();
  command->add_option("OUT", o->output, "directory to write; it appears complete or not at all")->required();
  command->add_option("--channels", o->channels, "outlier channels of each place")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 24))
      ->capture_default_str();
  command->add_option("--scale", o->scale, "S; powers of two change no bit of an fp32 model")->capture_default_str();
  command->add_option("--at", o->at, "norm: into q, k, v and the MLP; vo: into o; updown: into down; or all")
      ->check(CLI::IsMember({"norm", "vo", "updown", "all"}))
      ->capture_default_str();
  command->add_option("--offset", o->offset, "add so much to the channels of norms with a bias; linears take it back")
      ->capture_default_str();
  command->add_option("--layers", o->layers, "only these: A or A-B, counted from 0");
  command->add_flag("--force", o->force, "replace OUT if ptq wrote it");
  const CLI::Option* dtype = app.get_option("--dtype");
  command->callback([o, &global, dtype] { run(*o, global, dtype->count() > 0); });
}

}  // namespace ptq

#include "cli/grid_options.h"

#include "eval/grid_file.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <thread>

namespace ptq {

namespace {

// Effective, not peak; a first guess that `ptq status` replaces by what finished cells took.
constexpr double cpu_core_flops = 60e9, cpu_core_sweep = 15e9, gpu_flops = 150e12, gpu_sweep = 10e12;
constexpr double cell_seconds = 0.3;

std::string backend_of(const std::string& device) {
  if (device == "auto" || device == "cpu") return "cpu";
  return device == "simt" ? "simt" : "cuda";
}

MachineRate rate_of(const GlobalOptions& global, double tflops) {
  const bool gpu = backend_of(global.device) == "cuda";
  const double cores = gpu                  ? 1.0
                       : global.threads > 0 ? global.threads
                                            : std::max(1u, std::thread::hardware_concurrency());
  MachineRate rate{.flops = gpu ? gpu_flops : cores * cpu_core_flops,
                   .sweep_flops = gpu ? gpu_sweep : cores * cpu_core_sweep,
                   .cell_seconds = cell_seconds};
  if (tflops > 0) {
    rate.sweep_flops *= tflops * 1e12 / rate.flops;
    rate.flops = tflops * 1e12;
  }
  return rate;
}

// "2/8": the second of eight parts.
std::pair<std::int64_t, std::int64_t> parse_shard(const std::string& text) {
  if (text.empty()) return {0, 1};
  std::int64_t index = 0, count = 0;
  const char *begin = text.data(), *end = begin + text.size();
  const auto [slash, first] = std::from_chars(begin, end, index);
  const bool split = first == std::errc{} && slash != end && *slash == '/';
  const auto [stop, second] = split ? std::from_chars(slash + 1, end, count) : std::from_chars_result{end, first};
  require(split && second == std::errc{} && stop == end && index >= 1 && index <= count && count <= 1000000,
          Exit::usage, "--shard '{}': write I/N with I from 1 to N, such as 2/8", text);
  return {index - 1, count};
}

}  // namespace

void add_grid_options(CLI::App& command, GridOptions& o, bool store_required) {
  command.add_option("GRID", o.grid, "grid file (TOML)")->required();
  auto* store = command.add_option("--store", o.store, "directory of the results");
  if (store_required) store->required();
  command.add_option("--models", o.models,
                     "directory that the grid's model paths are in (default: as the grid says, or the Hugging Face "
                     "cache)");
  command.add_option("--shard", o.shard, "I/N: only the I-th of N parts; the parts depend on the grid alone");
  command
      .add_option("--tflops", o.tflops, "effective speed for estimates of time; 0: a guess for --device and --threads")
      ->check(CLI::Range(0.0, 1e6));
}

GridJob::GridJob(const GridOptions& o, const GlobalOptions& global, bool dtype_given)
    : grid_(read_grid(o.grid)), rate_(rate_of(global, o.tflops)), shard_(parse_shard(o.shard)) {
  if (dtype_given && grid_.dtype)
    fail(Exit::usage, "--dtype: the grid says dtype = \"{}\" itself", name_of(*grid_.dtype));
  settings_ = {.backend = backend_of(global.device), .dtype = global.compute_dtype()};
  paths_.grid = std::filesystem::path(o.grid).parent_path();
  if (paths_.grid.empty()) paths_.grid = ".";
  paths_.models = o.models.empty() ? grid_.models : std::filesystem::path(o.models);
  paths_.data = global.data.empty() && !grid_.data.empty() ? grid_.data : global.data_directory();
  estimate();
}

void GridJob::estimate() {
  std::map<std::string, std::optional<ModelShape>> found;  // by path
  const auto own_shape = [&](const GridModel& m) -> std::optional<ModelShape> {
    const auto at = found.find(m.path);
    if (at != found.end()) return at->second;
    std::optional<ModelShape>& shape = found[m.path];
    try {
      shape = shape_of(read_config(resolve_model(paths_.model_path(m.path))));
    } catch (const Error&) {
      // Not there, or not readable: `ptq run` says so; here it only means that there is no estimate.
    }
    return shape;
  };
  const bool all_declared = std::ranges::all_of(grid_.model, [](const GridModel& m) { return m.shape.has_value(); });
  // Every job must see the same parts, so nothing but the grid may decide about them.
  constexpr MachineRate any_machine{.flops = 1e12, .sweep_flops = 0.25e12, .cell_seconds = cell_seconds};
  std::vector<double> share, metric_bytes;
  for (const GridMetric& metric : grid_.metrics) {
    std::error_code error;
    const auto bytes = std::filesystem::file_size(paths_.data_path(metric.source), error);
    metric_bytes.push_back(error ? 0.0 : static_cast<double>(bytes));
  }
  for (const GridCell& cell : grid_.cells) {
    const GridModel& m = grid_.model[cell.model];
    const DType compute = compute_type(grid_, m, settings_);
    const auto shape = m.shape ? m.shape : own_shape(m);
    costs_.push_back(shape ? std::optional(cost_of(grid_, cell, *shape, compute, metric_bytes)) : std::nullopt);
    share.push_back(all_declared ? cost_of(grid_, cell, *m.shape, compute).seconds(any_machine) : 1.0);
  }
  mine_ = shard_of(share, shard_.first, shard_.second);
}

double GridJob::seconds(std::size_t cell) const { return costs_.at(cell) ? costs_[cell]->seconds(rate_) : 0.0; }

std::string GridJob::shard_name() const {
  return shard_.second == 1 ? "" : fmt::format(" (shard {}/{})", shard_.first + 1, shard_.second);
}

CellState state_of(const GridJob& job, const Store& store, std::size_t index) {
  CellState state;
  const GridCell& cell = job.grid().cells.at(index);
  const auto inputs = last_inputs(job.grid(), cell, job.settings(), InputDigests(store.inputs_path()));
  if (!inputs) return state;
  state.id = cell_id(cell_identity(job.grid(), cell, *inputs));
  if (auto result = store.find(state.id)) {
    state.kind = CellState::Kind::done;
    state.result = std::move(*result);
  } else if ((state.failure = store.failure(state.id))) {
    state.kind = CellState::Kind::failed;
  }
  return state;
}

std::string duration_text(double seconds) {
  constexpr double longest = 1e15;  // of a grid that makes no sense; NaN too
  const auto s = static_cast<std::int64_t>(seconds < longest ? seconds + 0.5 : longest);
  if (s >= 2 * 86400) return fmt::format("{} d {} h", s / 86400, s / 3600 % 24);
  if (s >= 3600) return fmt::format("{} h {:02} min", s / 3600, s / 60 % 60);
  return s >= 60 ? fmt::format("{} min {:02} s", s / 60, s % 60) : fmt::format("{} s", s);
}

std::string bytes_text(double bytes) {
  constexpr double kib = 1024, mib = kib * kib, gib = mib * kib;
  if (bytes >= gib) return fmt::format("{:.1f} GiB", bytes / gib);
  return bytes >= mib ? fmt::format("{:.1f} MiB", bytes / mib) : fmt::format("{:.0f} KiB", bytes / kib);
}

}  // namespace ptq

#include "cli/grid_options.h"

#include <nlohmann/json.hpp>

#include <map>

namespace ptq {

namespace {

struct Options {
  GridOptions grid;
  std::int64_t jobs = 1;
  bool json = false, missing = false;
};

struct Status {
  std::size_t done = 0, failed = 0, missing = 0;
  double remaining = 0;            // estimated seconds of the missing ones
  double took = 0, estimated = 0;  // seconds of those done: measured, and as they were estimated
  std::vector<std::pair<std::string, std::string>> failures;  // title, reason
  std::vector<std::string> missing_titles;
  std::map<std::string, std::array<std::size_t, 3>> by_model;  // done, failed, missing
};

Status status_of(const GridJob& job, const Store& store, std::int64_t jobs) {
  Status s;
  for (const std::size_t index : job.mine()) {
    const GridCell& cell = job.grid().cells[index];
    const CellState state = state_of(job, store, index);
    auto& counts = s.by_model[job.grid().model[cell.model].name];
    if (state.kind == CellState::Kind::done) {
      ++s.done;
      ++counts[0];
      const nlohmann::json total = state.result.value("/run/seconds/total"_json_pointer, nlohmann::json());
      if (total.is_number() && job.costs()[index]) {
        s.took += total.get<double>();
        s.estimated += job.seconds(index);
      }
    } else if (state.kind == CellState::Kind::failed) {
      ++s.failed;
      ++counts[1];
      s.failures.emplace_back(job.grid().title(cell), state.failure->reason);
    } else {
      ++s.missing;
      ++counts[2];
      s.missing_titles.push_back(job.grid().title(cell));
      s.remaining += job.seconds(index);
    }
  }
  // Finished cells tell how wrong the estimate is on the machines that computed them.
  if (s.took > 0 && s.estimated > 0) s.remaining *= s.took / s.estimated;
  s.remaining /= static_cast<double>(jobs);
  return s;
}

void print_status(const GridJob& job, const Status& s, bool list_missing) {
  const std::size_t total = job.mine().size();
  fmt::print("{}{}: {} of {} cells done, {} failed, {} missing", job.grid().name, job.shard_name(), s.done, total,
             s.failed, s.missing);
  if (s.missing > 0 && s.remaining > 0) {
    fmt::print("; about {} left{}", duration_text(s.remaining), s.took > 0 ? "" : " (a guess)");
  }
  fmt::print("\n");
  for (const GridModel& m : job.grid().model) {
    const auto found = s.by_model.find(m.name);
    if (found == s.by_model.end()) continue;
    const auto& [done, failed, missing] = found->second;
    fmt::print("{:<34} {:>6} done {:>4} failed {:>6} missing\n", m.name, done, failed, missing);
  }
  for (const auto& [title, reason] : s.failures) fmt::print("failed: {}: {}\n", title, reason);
  if (list_missing) {
    for (const std::string& title : s.missing_titles) fmt::print("missing: {}\n", title);
  }
}

nlohmann::json status_json(const GridJob& job, const Status& s) {
  nlohmann::json failures = nlohmann::json::array();
  for (const auto& [title, reason] : s.failures) failures.push_back({{"cell", title}, {"reason", reason}});
  return {{"grid", job.grid().name}, {"cells", job.mine().size()},
          {"done", s.done},          {"failed", s.failed},
          {"missing", s.missing},    {"seconds_left", s.remaining},
          {"failures", failures},    {"missing_cells", s.missing_titles}};
}

void run(const Options& o, const GlobalOptions& global, bool dtype_given) {
  const GridJob job(o.grid, global, dtype_given);
  const Store store(o.grid.store, StoreAccess::read,
                    [](const std::string& note) { fmt::print(stderr, "ptq: {}\n", note); });
  const Status status = status_of(job, store, o.jobs);
  if (o.json) {
    fmt::print("{}\n", status_json(job, status).dump(1));
  } else {
    print_status(job, status, o.missing);
  }
}

}  // namespace

void add_status(CLI::App& app, GlobalOptions& global) {
  auto* command = app.add_subcommand("status", "Which cells of a grid are done, failed (and why) and missing");
  command->footer(
      "Looks at the store only, so it works while jobs run and where neither models nor data are. --device and "
      "--dtype\n"
      "are those of the jobs.\n"
      "Example: ptq status reproduce/grids/paper.toml --store /shared/paper --device cuda");
  auto o = std::make_shared<Options>();
  add_grid_options(*command, o->grid, true);
  command->add_option("--jobs", o->jobs, "how many jobs share what is left, for the estimate of time")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 20))
      ->capture_default_str();
  command->add_flag("--missing", o->missing, "list the missing cells too");
  command->add_flag("--json", o->json, "print the status as JSON");
  const CLI::Option* dtype = app.get_option("--dtype");
  command->callback([o, &global, dtype] { run(*o, global, dtype->count() > 0); });
}

}  // namespace ptq

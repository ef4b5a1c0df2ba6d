#include "cli/capacity.h"
#include "cli/progress.h"
#include "eval/cell_runner.h"

namespace ptq {

namespace {

struct Options {
  GridOptions grid;
  double layer_seconds = RunnerOptions{}.layer_seconds;
  std::int64_t batch_tokens = RunnerOptions{}.batch_tokens, limit = -1;
  bool allow_missing = false, retry = false, check = false;
};

// What became of the cells of a job.
struct Tally {
  std::size_t computed = 0, there = 0, failed_before = 0, missing = 0;
  std::vector<std::pair<std::string, std::string>> failed;  // title, reason
  Exit first_failure = Exit::ok;
};

// Says everything that is not there, before any work.
void refuse_missing(GridInputs& inputs, const GridJob& job, bool allow) {
  const std::vector<MissingInput> missing = inputs.missing(job.mine());
  for (const MissingInput& m : missing) fmt::print(stderr, "ptq: missing for {} cells: {}\n", m.cells, m.reason);
  require(missing.empty() || allow, Exit::missing,
          "run: {} inputs are missing, see above; nothing was computed. --allow-missing computes the other cells",
          missing.size());
}

void refuse_early(const GridJob& job, const Ops& ops, const std::string& store) {
  std::optional<double> memory;
  if (const auto left = ops.memory_left()) memory = static_cast<double>(*left);
  const auto found = obstacles(job, store, memory);
  if (found.empty()) return;
  for (std::size_t i = 1; i < found.size(); ++i) fmt::print(stderr, "ptq: does not fit: {}\n", found[i].reason);
  fail(found[0].code, "run: does not fit: {}", found[0].reason);
}

class Run {
 public:
  Run(const Options& o, const GlobalOptions& global, const GridJob& job)
      : o_(o),
        job_(job),
        store_(o.grid.store, StoreAccess::write, [](const std::string& s) { fmt::print(stderr, "ptq: {}\n", s); }),
        inputs_(job.grid(), job.paths(), job.settings(), InputDigests(store_.inputs_path()), resolve_model),
        bar_(progress_mode(global.progress)),
        quiet_(progress_mode(global.progress) == ProgressMode::none) {
    store_.remove_leftovers();
    refuse_missing(inputs_, job, o.allow_missing);
    ops_ = global.open_device();
    refuse_early(job, *ops_, o.grid.store);
    double layer_seconds = o.layer_seconds;
    const double memory = available_memory(), host = needs_of(job).host;
    if (memory > 0 && host > memory && layer_seconds > 0) {
      fmt::print(stderr, "ptq: note: {} of memory are free, {} would be needed: finished layers go to disk\n",
                 bytes_text(memory), bytes_text(host));
      layer_seconds = 0;
    }
    runner_.emplace(job.grid(), inputs_, store_, *ops_,
                    RunnerOptions{.batch_tokens = o.batch_tokens,
                                  .layer_seconds = layer_seconds,
                                  .version = global.version,
                                  .progress = [this](const std::string& what, std::int64_t done, std::int64_t total) {
                                    bar_.update(what, done, total);
                                  }});
  }

  Tally all() {
    for (std::size_t n = 0; n < job_.mine().size(); ++n) {
      stop_if_interrupted();
      if (o_.limit >= 0 && std::ssize(tally_.failed) + static_cast<std::int64_t>(tally_.computed) >= o_.limit) break;
      one(n);
    }
    return std::move(tally_);
  }

 private:
  void one(std::size_t n) {
    const GridCell& cell = job_.grid().cells[job_.mine()[n]];
    const std::string title = job_.grid().title(cell);
    nlohmann::json identity;
    try {
      const CellInputs inputs = inputs_.inputs(cell);
      identity = cell_identity(job_.grid(), cell, inputs);
      const std::string id = cell_id(identity);
      if (store_.find(id)) {
        ++tally_.there;
        return;
      }
      if (!o_.retry && store_.failure(id)) {
        ++tally_.failed_before;
        return;
      }
      say("{}/{} {}", n + 1, job_.mine().size(), title);
      const CellResult result = runner_->compute(cell, inputs);
      bar_.finish();
      store_.publish(result);
      ++tally_.computed;
    } catch (const Error& e) {
      bar_.finish();
      failed(title, identity, e);
    }
  }

  // Errors of one cell do not stop the others; those of the machine do.
  void failed(const std::string& title, const nlohmann::json& identity, const Error& e) {
    if (e.code() == Exit::missing && o_.allow_missing) {
      ++tally_.missing;
      return;
    }
    const bool own =
        e.code() == Exit::numerics || e.code() == Exit::data || e.code() == Exit::usage || e.code() == Exit::missing;
    if (!own) throw Error(e.code(), fmt::format("{}: {}", title, e.what()));
    fmt::print(stderr, "ptq: {}: {}\n", title, e.what());
    if (e.code() == Exit::numerics && !identity.is_null())
      store_.record_failure(identity, {static_cast<int>(e.code()), e.what()});
    tally_.failed.emplace_back(title, e.what());
    if (tally_.first_failure == Exit::ok) tally_.first_failure = e.code();
  }

  template <class... Args>
  void say(fmt::format_string<Args...> format, Args&&... args) const {
    if (!quiet_) fmt::print(stderr, "{}\n", fmt::format(format, std::forward<Args>(args)...));
  }

  const Options& o_;
  const GridJob& job_;
  Store store_;
  GridInputs inputs_;
  Progress bar_;
  bool quiet_;
  std::unique_ptr<Ops> ops_;
  std::optional<CellRunner> runner_;
  Tally tally_;
};

void run(const Options& o, const GlobalOptions& global, bool dtype_given) {
  const GridJob job(o.grid, global, dtype_given);
  Run cells(o, global, job);
  if (o.check) {
    fmt::print("{}{}: everything is there for {} cells\n", job.grid().name, job.shard_name(), job.mine().size());
    return;
  }
  const Tally tally = cells.all();
  fmt::print("{}{}: {} cells computed, {} there already", job.grid().name, job.shard_name(), tally.computed,
             tally.there);
  if (tally.missing > 0) fmt::print(", {} without their inputs", tally.missing);
  if (tally.failed_before > 0) fmt::print(", {} that failed before", tally.failed_before);
  if (!tally.failed.empty()) fmt::print(", {} failed", tally.failed.size());
  fmt::print("\n");
  if (!tally.failed.empty())
    fail(tally.first_failure, "run: {} of {} cells failed, the first is {}: {}", tally.failed.size(), job.mine().size(),
         tally.failed[0].first, tally.failed[0].second);
  require(tally.failed_before == 0, Exit::numerics,
          "run: {} cells failed before and were not tried again; `ptq status` says why, --retry tries them",
          tally.failed_before);
}

}  // namespace

void add_run(CLI::App& app, GlobalOptions& global) {
  auto* command = app.add_subcommand("run", "Computes the cells of a grid that are not in the store");
  command->footer(
      "A finished cell is never computed again: the same command resumes after any interruption. Any number of jobs\n"
      "may work on one store; --shard I/N gives each a part of its own. What is missing or does not fit is said "
      "before\n"
      "any work. A cell that fails numerically is recorded and the others are computed (exit 76).\n"
      "Example: ptq run reproduce/grids/small.toml --store out/small --models models\n"
      "         ptq run reproduce/grids/paper.toml --store /shared/paper --models /shared/models --device cuda:0 "
      "--shard 1/8");
  auto o = std::make_shared<Options>();
  add_grid_options(*command, o->grid, true);
  command->add_flag("--allow-missing", o->allow_missing, "compute what can be; cells without their inputs are counted");
  command->add_flag("--check", o->check, "only find out whether anything is missing or does not fit; compute nothing");
  command->add_flag("--retry", o->retry, "try cells again that failed numerically");
  command->add_option("--limit", o->limit, "compute at most so many cells; -1: all")->capture_default_str();
  command
      ->add_option("--layer-seconds", o->layer_seconds,
                   "keep finished layers of a cell in progress at most so often; 0: after each layer")
      ->check(CLI::Range(0.0, 1e9))
      ->capture_default_str();
  command->add_option("--batch-tokens", o->batch_tokens, "tokens of a forward pass of evaluation; no effect on results")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 24))
      ->capture_default_str();
  const CLI::Option* dtype = app.get_option("--dtype");
  command->callback([o, &global, dtype] { run(*o, global, dtype->count() > 0); });
}

}  // namespace ptq

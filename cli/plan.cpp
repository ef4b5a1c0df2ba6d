#include "cli/capacity.h"

#include <nlohmann/json.hpp>

namespace ptq {

namespace {

struct Options {
  GridOptions grid;
  bool cells = false, json = false;
};

struct ModelPlan {
  std::size_t evaluations = 0, studies = 0, numbers = 0;
  double seconds = 0;
  bool known = true;  // all costs

  void add(const ModelPlan& other) {
    evaluations += other.evaluations;
    studies += other.studies;
    numbers += other.numbers;
    seconds += other.seconds;
    known = known && other.known;
  }
};

struct Plan {
  std::vector<ModelPlan> models;
  ModelPlan all;
};

Plan plan_of(const GridJob& job) {
  Plan plan{.models = std::vector<ModelPlan>(job.grid().model.size()), .all = {}};
  for (const std::size_t index : job.mine()) {
    const GridCell& cell = job.grid().cells[index];
    plan.models[cell.model].add({.evaluations = cell.study ? 0U : 1U,
                                 .studies = cell.study ? 1U : 0U,
                                 .numbers = cell.metrics.size(),
                                 .seconds = job.seconds(index),
                                 .known = job.costs()[index].has_value()});
  }
  for (const ModelPlan& model : plan.models) plan.all.add(model);
  return plan;
}

nlohmann::json plan_json(const GridJob& job, const std::vector<Obstacle>& obstacles) {
  nlohmann::json models = nlohmann::json::array(), reasons = nlohmann::json::array();
  const Plan plan = plan_of(job);
  for (std::size_t m = 0; m < plan.models.size(); ++m) {
    const ModelPlan& of = plan.models[m];
    const GridNeeds needs = needs_of(job, m);
    nlohmann::json model = {
        {"name", job.grid().model[m].name}, {"evaluations", of.evaluations}, {"studies", of.studies}};
    if (of.known) {
      model.update({{"seconds", of.seconds},
                    {"host_bytes", needs.host},
                    {"gpu_bytes", needs.device},
                    {"gpu_bytes_streamed", needs.device_least}});
    }
    models.push_back(std::move(model));
  }
  for (const Obstacle& o : obstacles) reasons.push_back(o.reason);
  const GridNeeds needs = needs_of(job);
  return {{"grid", job.grid().name},       {"evaluations", plan.all.evaluations},
          {"studies", plan.all.studies},   {"numbers", plan.all.numbers},
          {"seconds", plan.all.seconds},   {"tflops", job.rate().flops / 1e12},
          {"result_bytes", needs.results}, {"partial_bytes", needs.partial},
          {"models", std::move(models)},   {"does_not_fit", std::move(reasons)}};
}

// Thousands apart, as people write them.
std::string count_text(std::size_t count) {
  std::string digits = std::to_string(count);
  for (auto at = static_cast<std::ptrdiff_t>(digits.size()) - 3; at > 0; at -= 3)
    digits.insert(static_cast<std::size_t>(at), ",");
  return digits;
}

void print_plan(const GridJob& job, const GridOptions& o, const std::vector<Obstacle>& obstacles) {
  const Grid& grid = job.grid();
  const Plan plan = plan_of(job);
  fmt::print("{}{}: {} evaluation cells ({} numbers) and {} activation studies\n", grid.name, job.shard_name(),
             count_text(plan.all.evaluations), count_text(plan.all.numbers), count_text(plan.all.studies));
  fmt::print("{} models, {} methods, {} calibration sets (draws counted), {} metrics{}\n\n", grid.model.size(),
             grid.method.size(), grid.set.size(), grid.metrics.size(),
             grid.baseline.empty() ? "" : ", figures normalise to " + grid.baseline);
  fmt::print("{:<34} {:>7} {:>7}  {:>12}  {:>10}  {:>10}  {:>10}\n", "model", "cells", "studies", "time", "memory CPU",
             "GPU", "streamed");
  for (std::size_t m = 0; m < plan.models.size(); ++m) {
    const ModelPlan& of = plan.models[m];
    if (of.evaluations + of.studies == 0) continue;
    const GridNeeds needs = needs_of(job, m);
    fmt::print("{:<34} {:>7} {:>7}", grid.model[m].name, of.evaluations, of.studies);
    if (of.known) {
      fmt::print("  {:>12}  {:>10}  {:>10}  {:>10}\n", duration_text(of.seconds), bytes_text(needs.host),
                 bytes_text(needs.device), bytes_text(needs.device_least));
    } else {
      fmt::print("  not there, and the grid gives no shape\n");
    }
  }
  const GridNeeds needs = needs_of(job);
  fmt::print("\ntime: about {} of one {} at {:.3g} TFLOP/s{}{}\n", duration_text(plan.all.seconds),
             job.settings().backend == "cuda" ? "GPU" : "machine", job.rate().flops / 1e12,
             o.tflops > 0 ? "" : " (a guess; --tflops sets it)",
             !plan.all.known ? ", without the models that are not there" : "");
  fmt::print("disk: about {} of results, {} while the largest cell is in progress\n", bytes_text(needs.results),
             bytes_text(needs.partial));
  for (const Obstacle& obstacle : obstacles) fmt::print("does not fit here: {}\n", obstacle.reason);
}

void run(const Options& o, const GlobalOptions& global, bool dtype_given) {
  const GridJob job(o.grid, global, dtype_given);
  if (o.cells) {
    for (const std::size_t index : job.mine()) fmt::print("{}\n", job.grid().title(job.grid().cells[index]));
    return;
  }
  // The GPU that will run it may be another one: only this machine's own resources are looked at, and only by `run`
  // the device.
  const bool here = job.settings().backend == "cpu";
  const auto found = here ? obstacles(job, o.grid.store, std::nullopt) : std::vector<Obstacle>{};
  if (o.json) {
    fmt::print("{}\n", plan_json(job, found).dump(1));
  } else {
    print_plan(job, o.grid, found);
  }
}

}  // namespace

void add_plan(CLI::App& app, GlobalOptions& global) {
  auto* command = app.add_subcommand("plan", "What a grid consists of and what it takes; computes nothing");
  command->footer(
      "Needs neither models nor data: sizes come from the grid, or from config.json where a model is there. Times are\n"
      "estimates from counted operations.\n"
      "Example: ptq plan reproduce/grids/paper.toml --device cuda --tflops 200\n"
      "         ptq plan reproduce/grids/small.toml --cells");
  auto o = std::make_shared<Options>();
  add_grid_options(*command, o->grid, false);
  command->add_flag("--cells", o->cells, "print the cells, one a line, in the order in which they are computed");
  command->add_flag("--json", o->json, "print the plan as JSON");
  const CLI::Option* dtype = app.get_option("--dtype");
  command->callback([o, &global, dtype] { run(*o, global, dtype->count() > 0); });
}

}  // namespace ptq

#include "cli/grid_options.h"
#include "eval/grid_table.h"
#include "host/files.h"

#include <nlohmann/json.hpp>

namespace ptq {

namespace {

struct Options {
  GridOptions grid;
  std::string csv, jsonl;
};

TableRow row_of(const GridJob& job, const Store& store, std::size_t index) {
  CellState state = state_of(job, store, index);
  TableRow row;
  row.cell = index;
  row.id = std::move(state.id);
  row.status = "missing";
  if (state.kind == CellState::Kind::done) {
    row.status = "done";
    row.result = std::move(state.result);
  } else if (state.kind == CellState::Kind::failed) {
    row.status = "failed";
    row.reason = state.failure->reason;
  }
  return row;
}

void write_to(const std::string& target, const std::string& text) {
  if (target == "-") {
    fmt::print("{}", text);
  } else if (!target.empty()) {
    write_file(target, text);
  }
}

void run(const Options& o, const GlobalOptions& global, bool dtype_given) {
  require(!o.csv.empty() || !o.jsonl.empty(), Exit::usage, "collect: give --csv FILE, --jsonl FILE or both; - prints");
  require(o.csv != "-" || o.jsonl != "-", Exit::usage, "collect: only one of --csv and --jsonl can be -");
  const GridJob job(o.grid, global, dtype_given);
  const Store store(o.grid.store, StoreAccess::read,
                    [](const std::string& note) { fmt::print(stderr, "ptq: {}\n", note); });
  std::string csv = csv_header(), jsonl = grid_json(job.grid()).dump() + "\n";
  std::size_t done = 0;
  for (const std::size_t index : job.mine()) {
    const TableRow row = row_of(job, store, index);
    done += row.status == "done";
    if (!o.csv.empty()) csv += csv_rows(job.grid(), row);
    if (!o.jsonl.empty()) jsonl += row_json(job.grid(), row).dump() + "\n";
  }
  write_to(o.csv, csv);
  write_to(o.jsonl, jsonl);
  if (done < job.mine().size())
    fmt::print(stderr, "ptq: note: {} of {} cells are there; the others are in the tables without values\n", done,
               job.mine().size());
}

}  // namespace

void add_collect(CLI::App& app, GlobalOptions& global) {
  auto* command = app.add_subcommand("collect", "Gathers the results of a grid into CSV or JSON Lines");
  command->footer(
      "CSV: a line for every number of every cell. JSONL: the grid, then a line for every cell with its whole result.\n"
      "Cells that are not there have a line without values. Equal stores give equal files, but for what JSONL says\n"
      "about the run.\n"
      "Example: ptq collect reproduce/grids/small.toml --store out/small --csv small.csv --jsonl small.jsonl");
  auto o = std::make_shared<Options>();
  add_grid_options(*command, o->grid, true);
  command->add_option("--csv", o->csv, "write this file; - prints");
  command->add_option("--jsonl", o->jsonl, "write this file; - prints");
  const CLI::Option* dtype = app.get_option("--dtype");
  command->callback([o, &global, dtype] { run(*o, global, dtype->count() > 0); });
}

}  // namespace ptq

// What `ptq plan`, `run`, `status` and `collect` have in common: a grid, where its inputs are, a store, a shard.
#pragma once

#include "cli/options.h"
#include "eval/estimate.h"
#include "eval/grid_inputs.h"
#include "eval/store.h"

#include <optional>
#include <string>
#include <vector>

namespace ptq {

struct GridOptions {
  std::string grid, store, models, shard;
  double tflops = 0;  // 0: a guess for the device
};

// `store_required`: plan works without.
void add_grid_options(CLI::App& command, GridOptions& o, bool store_required);

// A grid with everything that follows from options: the one place where the four commands agree about cells.
class GridJob {
 public:
  GridJob(const GridOptions& o, const GlobalOptions& global, bool dtype_given);

  const Grid& grid() const { return grid_; }
  const GridPaths& paths() const { return paths_; }
  const GridSettings& settings() const { return settings_; }
  const std::vector<std::size_t>& mine() const { return mine_; }  // cells of the shard
  std::string shard_name() const;                                 // "", " (shard 2/8)"

  // Of each cell, by the shape that the grid says, or the model's own; empty where neither is there.
  const std::vector<std::optional<CellCost>>& costs() const { return costs_; }
  MachineRate rate() const { return rate_; }
  double seconds(std::size_t cell) const;  // 0 if the cost is not known

 private:
  void estimate();

  Grid grid_;
  GridPaths paths_;
  GridSettings settings_;
  MachineRate rate_;
  std::pair<std::int64_t, std::int64_t> shard_{0, 1};
  std::vector<std::optional<CellCost>> costs_;
  std::vector<std::size_t> mine_;
};

// Where a cell stands in a store, found without models and data.
struct CellState {
  enum class Kind : std::uint8_t { missing, failed, done } kind = Kind::missing;
  std::string id;                         // empty: never digested
  nlohmann::json result;                  // done
  std::optional<Store::Failure> failure;  // failed
};

CellState state_of(const GridJob& job, const Store& store, std::size_t cell);

// "3 d 4 h", "2 h 05 min", "41 s"
std::string duration_text(double seconds);
std::string bytes_text(double bytes);  // "13.4 GiB"

}  // namespace ptq

#include "eval/grid.h"

#include "host/error.h"

#include <algorithm>
#include <numeric>

namespace ptq {

ModelShape shape_of(const ModelConfig& c) {
  return {.layers = c.layers,
          .width = c.width,
          .ffn = c.ffn,
          .heads = c.heads,
          .kv_heads = c.kv_heads,
          .head_dim = c.head_dim,
          .vocab = c.vocab,
          .positions = c.max_position,
          .gated = c.gated,
          .tied = c.tied_head};
}

bool GridMethod::needs_set() const {
  return treatment == Treatment::remove_dead || (treatment == Treatment::quantize && needs_calibration(spec));
}

std::size_t Grid::evaluations() const {
  return static_cast<std::size_t>(std::ranges::count_if(cells, [](const GridCell& p) { return !p.study; }));
}

std::size_t Grid::studies() const { return cells.size() - evaluations(); }

std::size_t Grid::numbers() const {
  std::size_t sum = 0;
  for (const GridCell& p : cells) sum += p.metrics.size();
  return sum;
}

std::string Grid::title(const GridCell& p) const {
  std::string title = model.at(p.model).name + ", " + (p.study ? "activations" : method.at(*p.method).name);
  if (p.set) title += ", " + set.at(*p.set).title;
  return title;
}

std::vector<std::size_t> shard_of(const std::vector<double>& cost, std::int64_t index, std::int64_t count) {
  check(0 <= index && index < count, "shard {} of {}", index, count);
  const double total = std::accumulate(cost.begin(), cost.end(), 0.0);
  std::vector<std::size_t> mine;
  double before = 0.0;
  for (std::size_t i = 0; i < cost.size(); ++i) {
    // The middle of the cell decides, so that every cell is in one part. Without costs: by number.
    const double at = total > 0.0 ? (before + 0.5 * cost[i]) / total
                                  : (static_cast<double>(i) + 0.5) / static_cast<double>(cost.size());
    if (std::min(static_cast<std::int64_t>(at * static_cast<double>(count)), count - 1) == index) mine.push_back(i);
    before += cost[i];
  }
  return mine;
}

}  // namespace ptq

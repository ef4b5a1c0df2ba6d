#include "eval/grid_cells.h"

#include "host/error.h"
#include "host/printable.h"

#include <algorithm>
#include <map>
#include <tuple>

namespace ptq {

namespace {

constexpr std::size_t most_cells = 1000000, most_numbers = 10000000;  // of all products, before exclusions
constexpr std::size_t none = static_cast<std::size_t>(-1);

// Where a cell stands in the order of computation: cells without calibration before all sets; of a set the studies,
// then AWQ, whose walk leaves the statistics that SmoothQuant and others start from.
struct Place {
  std::size_t model, set_plus_one;
  int step;
  std::size_t method;  // or study

  auto operator<=>(const Place&) const = default;
};

// Membership of indices, where a list would be searched for every cell.
class Members {
 public:
  Members(const std::vector<std::size_t>& indices, std::size_t count) : has_(count) {
    for (const std::size_t i : indices) has_[i] = true;
  }
  bool operator[](std::size_t index) const { return has_[index]; }

 private:
  std::vector<bool> has_;
};

struct Exclusion {
  Members models, methods, sets;
  bool names_sets;

  // A cell without a set is left out by models and methods, unless it is sets that are left out.
  bool holds(std::size_t model, std::size_t method, std::size_t set) const {
    return models[model] && methods[method] && (set == none ? !names_sets : sets[set]);
  }
};

class Cells {
 public:
  Cells(Grid& grid, const std::vector<Product>& exclude) : grid_(grid) {
    for (const Product& e : exclude)
      exclude_.push_back({Members(e.models, grid.model.size()), Members(e.methods, grid.method.size()),
                          Members(e.sets, grid.set.size()), e.names_sets});
  }

  void add(const Product& product, bool with_exclusions) {
    for (const std::size_t model : product.models) {
      for (const std::size_t method : product.methods) {
        const bool calibrated = grid_.method[method].needs_set();
        limit(calibrated ? product.sets.size() : 1, product.metrics.size());
        if (!calibrated) add(model, method, none, product, with_exclusions);
        for (std::size_t i = 0; calibrated && i < product.sets.size(); ++i)
          add(model, method, product.sets[i], product, with_exclusions);
      }
    }
  }

  void add(const StudyProduct& product) {
    for (const std::size_t model : product.models) {
      limit(product.sets.size(), 0);
      for (const std::size_t set : product.sets) {
        GridCell& cell = cells_[{model, set + 1, 0, product.study}];
        cell.model = model;
        cell.set = set;
        cell.study = product.study;
      }
    }
  }

  void finish() {
    for (auto& [place, cell] : cells_) {
      std::ranges::sort(cell.metrics);
      const auto repeated = std::ranges::unique(cell.metrics);  // by several products
      cell.metrics.erase(repeated.begin(), repeated.end());
      grid_.cells.push_back(std::move(cell));
    }
  }

 private:
  void add(std::size_t model, std::size_t method, std::size_t set, const Product& product, bool with_exclusions) {
    if (with_exclusions && std::ranges::any_of(exclude_, [&](const auto& e) { return e.holds(model, method, set); }))
      return;
    require(grid_.method[method].treatment != Treatment::remove_injected || grid_.model[model].inject, Exit::data,
            "{}{}: nothing is injected into {}; leave it out with [[exclude]]", product.where,
            printable(grid_.method[method].name), printable(grid_.model[model].name));
    const bool awq = grid_.method[method].spec.method == Method::awq;
    GridCell& cell = cells_[{model, set + 1, awq ? 1 : 2, method}];
    cell.model = model;
    cell.method = method;
    if (set != none) cell.set = set;
    cell.metrics.insert(cell.metrics.end(), product.metrics.begin(), product.metrics.end());
  }

  void limit(std::size_t more, std::size_t metrics) {
    asked_ += more;
    numbers_ += more * metrics;
    require(asked_ <= most_cells && numbers_ <= most_numbers, Exit::data,
            "{}:1: more than {} cells or {} numbers; split the grid", grid_.file.string(), most_cells, most_numbers);
  }

  Grid& grid_;
  std::vector<Exclusion> exclude_;
  std::map<Place, GridCell> cells_;
  std::size_t asked_ = 0, numbers_ = 0;
};

}  // namespace

bool matches_pattern(std::string_view pattern, std::string_view name) {
  // Greedy, with one place to come back to: linear in practice, quadratic at worst.
  std::size_t p = 0, n = 0, star = std::string_view::npos, from = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      from = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++from;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

void expand(Grid& grid, const Product& axes, const std::vector<Product>& exclude, const std::vector<Product>& include,
            const std::vector<StudyProduct>& studies) {
  Cells cells(grid, exclude);
  cells.add(axes, true);
  for (const Product& product : include) cells.add(product, false);
  for (const StudyProduct& product : studies) cells.add(product);
  cells.finish();
}

}  // namespace ptq

// From a grid's axes to its cells.
#pragma once

#include "eval/grid.h"

#include <string>
#include <vector>

namespace ptq {

// The names that one axis of a product asks for, as indices into the grid's list.
struct Product {
  std::vector<std::size_t> models, methods, sets, metrics;
  bool names_sets = false;  // else all of them
  std::string where;        // "FILE:LINE: "
};

struct StudyProduct {
  std::vector<std::size_t> models, sets;
  std::size_t study = 0;
};

// Does `name` match `pattern`, in which * stands for any characters and ? for one?
bool matches_pattern(std::string_view pattern, std::string_view name);

// Fills grid.cells: `axes` without what `exclude` names, `include`, and the studies; a cell that several products
// name exists once, with the metrics of all. An exclusion that names sets leaves cells without calibration alone. Exit 65
// with the place if a method cannot be applied to a model, or if there are more than a million cells.
void expand(Grid& grid, const Product& axes, const std::vector<Product>& exclude, const std::vector<Product>& include,
            const std::vector<StudyProduct>& studies);

}  // namespace ptq

// Results of a grid as tables: what `ptq collect` writes.
#pragma once

#include "eval/grid.h"

#include <nlohmann/json.hpp>
#include <string>

namespace ptq {

struct TableRow {
  std::size_t cell = 0;
  std::string id;         // empty if the cell's inputs were never digested
  std::string status;     // "done", "failed", "missing"
  std::string reason;     // failed
  nlohmann::json result;  // done
};

// The grid itself: {"grid": {"name", "baseline", "report", "metrics", "models", "methods", "sets"}}.
nlohmann::json grid_json(const Grid& grid);

// {"model", "method", "set", "group", "draw", "kind", "id", "status", "reason", "result"}; names as in grid_json.
nlohmann::json row_json(const Grid& grid, const TableRow& row);

// model,method,set,draw,metric,measure,value,stderr,n,status,id: one line for every number; for a cell without a result
// one line without a value for every number that it should have.
std::string csv_header();
std::string csv_rows(const Grid& grid, const TableRow& row);

}  // namespace ptq

// The items of a grid file: its [[metric]], [[model]], [[method]] and [[set]] tables (eval/grid_file.h).
#pragma once

#include "eval/grid.h"
#include "eval/toml_fields.h"
#include "host/error.h"

#include <string>

namespace ptq {

// Each adds what its table describes. Exit 65 with FILE:LINE.
void read_metric(TomlFields f, Grid& grid);
void read_model(TomlFields f, Grid& grid);  // a twin: one for each seed
void read_method(TomlFields f, Grid& grid);
void read_set(TomlFields f, Grid& grid);  // one for each draw

DType parse_dtype(const TomlFields& fields, const std::string& text);

// Runs code that refuses values with exit 2, as for an option of the command line; here it is the file that is wrong.
template <class Step>
auto in_file(const std::string& place, const Step& step) {
  try {
    return step();
  } catch (const Error& e) {
    fail(Exit::data, "{}{}", place, e.what());
  }
}

}  // namespace ptq

// Names for profilers: what a Range sees from its construction to its destruction carries its name, inside the names of
// the ranges around it. docs/profiling.md lists the names.
#pragma once

#include "host/ops.h"

#include <fmt/format.h>

#include <utility>

namespace ptq {

class Range {
 public:
  Range(Ops& ops, const std::string& name) : ops_(ops) { ops_.begin_range(name.c_str()); }
  template <class... Args>
  Range(Ops& ops, fmt::format_string<Args...> format, Args&&... args)
      : Range(ops, fmt::format(format, std::forward<Args>(args)...)) {}
  ~Range() { ops_.end_range(); }
  Range(const Range&) = delete;
  Range& operator=(const Range&) = delete;

 private:
  Ops& ops_;
};

}  // namespace ptq

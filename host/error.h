// The one error path: an Error carries the exit code that the command line returns and one line that says
// what is wrong, where (file, tensor, layer, byte) and what to do. Nothing in the libraries prints or exits.
#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace ptq {

// Exit codes of the command line (sysexits.h where it has one; 76 is ours).
enum class Exit : int {
  ok = 0,
  usage = 2,      // the command line itself is wrong
  data = 65,      // malformed input
  missing = 66,   // an input file, tensor or data set is not there
  device = 69,    // no such device
  internal = 70,  // a bug of this program
  create = 73,    // an output cannot be created
  io = 74,        // reading or writing failed (disk full, I/O error)
  again = 75,     // out of memory or interrupted: rerun
  numerics = 76,  // singular Hessian, non-finite activation
};

class Error : public std::runtime_error {
 public:
  Error(Exit code, const std::string& message) : std::runtime_error(message), code_(code) {}
  Exit code() const { return code_; }

 private:
  Exit code_;
};

template <class... Args>
[[noreturn]] void fail(Exit code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

// Input checks: fails with `code` unless `ok`.
template <class... Args>
void require(bool ok, Exit code, fmt::format_string<Args...> format, Args&&... args) {
  if (!ok) throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

// Preconditions between our own modules: a violation is a bug (exit 70).
template <class... Args>
void check(bool ok, fmt::format_string<Args...> format, Args&&... args) {
  if (!ok) throw Error(Exit::internal, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace ptq

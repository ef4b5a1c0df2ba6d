// The ptq program as its users meet it: run in a shell, with what it prints and its exit code.
#pragma once

#include "host/files.h"
#include "temporary.h"

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

namespace ptq {

struct Outcome {
  int code;
  std::string out, err;
};

// `shell` runs before ptq in the same shell; `directory` takes the file of standard error.
inline Outcome run_ptq(const std::filesystem::path& directory, const std::string& arguments,
                       const std::string& shell = "true") {
  const std::string err = (directory / "stderr").string();
  const std::string command = shell + "; exec '" + std::string(PTQ_BINARY) + "' " + arguments + " 2>'" + err + "'";
  FILE* pipe = popen(("bash -c \"" + command + "\"").c_str(), "r");
  std::string out;
  char buffer[4096];
  for (std::size_t n; (n = fread(buffer, 1, sizeof buffer, pipe)) > 0;) out.append(buffer, n);
  const int status = pclose(pipe);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, out, read_file(err, "stderr")};
}

// It failed with `code` and said so in one line that holds every one of `words`.
inline void expect_failure(const Outcome& r, int code, const std::vector<std::string>& words = {}) {
  EXPECT_EQ(r.code, code) << r.err;
  EXPECT_EQ(std::count(r.err.begin(), r.err.end(), '\n'), 1) << r.err;
  EXPECT_EQ(r.err.rfind("ptq: ", 0), 0u) << r.err;
  for (const auto& word : words) EXPECT_NE(r.err.find(word), std::string::npos) << word << " in: " << r.err;
}

}  // namespace ptq

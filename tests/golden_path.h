// Where the optional test inputs are. Tests that need one which is not there skip with a reason.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

namespace ptq {

inline std::filesystem::path environment_path(const char* variable) {
  const char* value = std::getenv(variable);
  return value ? std::filesystem::path(value) : std::filesystem::path();
}

}  // namespace ptq

// Inside a test: PTQ_NEED(dir, "PTQ_GOLDEN", "models") defines dir = $PTQ_GOLDEN/models or skips.
#define PTQ_NEED(name, variable, below)                                       \
  const std::filesystem::path name = ptq::environment_path(variable) / below; \
  if (std::getenv(variable) == nullptr || !std::filesystem::exists(name))     \
  GTEST_SKIP() << variable << (std::getenv(variable) ? " has no " + std::string(below) : " is not set")

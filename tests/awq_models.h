// The tiny models in the tree as inputs of the AWQ tests.
#pragma once

#include "model/weights.h"
#include "quant/scheme.h"
#include "quant/walk.h"

#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace ptq {

inline std::shared_ptr<const ModelFiles> files_of(const std::string& name) {
  return std::make_shared<const ModelFiles>(
      ModelFiles::open(std::filesystem::path(PTQ_SOURCE_DIR) / "tests/golden/models" / name));
}

inline QuantSpec awq_spec(std::int64_t group) {
  QuantSpec spec;
  spec.method = Method::awq;
  spec.symmetric = false;
  spec.group = group;
  return spec;
}

// Of unequal lengths.
inline std::vector<Window> windows(std::int64_t vocab) {
  std::mt19937 random(7);
  std::uniform_int_distribution<int> id(0, static_cast<int>(vocab) - 1);
  std::vector<Window> out;
  for (const std::size_t length : {17u, 40u, 5u, 33u}) {
    Window& window = out.emplace_back(length);
    for (auto& token : window) token = id(random);
  }
  return out;
}

}  // namespace ptq

// The tiny models with reference outputs, and tensors of token ids as windows.
#pragma once

#include "golden_path.h"
#include "host/tensor.h"

#include <algorithm>
#include <vector>

namespace ptq {

// The small set in the tree, and the larger one of $PTQ_GOLDEN where it is there.
inline std::vector<std::filesystem::path> golden_models() {
  namespace fs = std::filesystem;
  std::vector<fs::path> out;
  const fs::path more = environment_path("PTQ_GOLDEN") / "models";
  for (const fs::path& root : {fs::path(PTQ_SOURCE_DIR) / "tests" / "golden" / "models", more}) {
    if (!fs::is_directory(root)) continue;
    for (const auto& entry : fs::directory_iterator(root)) {
      if (fs::exists(entry.path() / "golden.json")) out.push_back(entry.path());
    }
  }
  std::sort(out.begin(), out.end());
  EXPECT_GE(out.size(), fs::is_directory(more) ? 27u : 3u);
  return out;
}

// ids [windows, tokens] i32
inline std::vector<std::vector<std::int32_t>> rows_of(const Tensor& ids) {
  std::vector<std::vector<std::int32_t>> rows;
  for (std::int64_t r = 0; r < ids.dim(0); ++r) {
    const auto row = ids.slice_rows(r, r + 1).span<std::int32_t>();
    rows.emplace_back(row.begin(), row.end());
  }
  return rows;
}

}  // namespace ptq

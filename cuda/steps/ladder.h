// The teaching ladder: for three kernels, the steps from the plainest code to the production kernel (docs/ladder-*.md).
// A rung takes the place of a production launcher, so that the same tests and the same bench run it.
#pragma once

#include "cuda/backend/launchers.h"

#include <span>
#include <string_view>

namespace ptq::cuda {

struct Rung {
  std::string_view name;  // "gemm/2-tiled"
  void (*install)(Launchers&);
};

std::span<const Rung> ladder();

// Production launchers with this rung in its place; all of production for "". Exit 64 if there is no such rung.
Launchers launchers_with(std::string_view rung);

}  // namespace ptq::cuda

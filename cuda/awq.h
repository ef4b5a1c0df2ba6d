// Launchers of awq.cu and awq_clip.cu.
#pragma once

#include "cuda/stream.h"
#include "host/grid.h"

#include <cstdint>

namespace ptq::cuda {

// out = Q(w diag(t)) diag(t)^-1 with a grid for each `group` columns. out (rows, columns), may be w; w (rows, columns);
// t (columns).
void round_scaled(float* out, const float* w, const float* t, std::int64_t rows, std::int64_t columns,
                  std::int64_t group, const GridSpec& grid, Stream stream);

// B of the clip search, one of two forms (awq_tokens.cu).
struct ClipFactor {
  bool gram;  // a group's Gram matrix, else its tokens
  int terms;  // columns that count
  int pitch;  // columns in memory: columns * pitch floats in all
};

ClipFactor clip_factor(std::int64_t tokens, std::int64_t group);

// b (columns, f.pitch) of x (tokens, columns); columns is a multiple of group.
void form_clip_factor(float* b, const ClipFactor& f, const float* x, std::int64_t columns, std::int64_t tokens,
                      std::int64_t group, Stream stream);

struct ClipSearch {
  float* clip;     // (N, G) out
  const float* w;  // (N, I)
  const float* b;  // (I, factor.pitch)
  ClipFactor factor;
  int rows;     // N
  int columns;  // I
  int group;    // columns of a group, a divisor of I
  GridSpec grid;
};

void clip_search(const ClipSearch& s, Stream stream);

}  // namespace ptq::cuda

#include "model/outlier_rows.h"

#include "host/grid.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace ptq {

namespace {

using Flags = std::vector<char>;  // by column

// Columns of rows [begin, end) that hold a value of at least the threshold.
Flags outlier_columns(const float* x, std::int64_t columns, const Segment& s, float threshold) {
  Flags found(static_cast<std::size_t>(columns), 0);
  for (std::int64_t t = s.begin; t < s.end; ++t) {
    const float* row = x + t * columns;
    for (std::int64_t i = 0; i < columns; ++i)
      found[static_cast<std::size_t>(i)] |= static_cast<char>(std::fabs(row[i]) >= threshold);
  }
  return found;
}

}  // namespace

Int8Rows quantize_with_outliers(Ops& ops, const Tensor& x, std::span<const Segment> segments, float threshold,
                                int bits) {
  const Tensor host = ops.to_host(x).to(DType::f32);
  const auto* in = host.data<float>();
  const std::int64_t rows = x.rows(), columns = x.cols();

  std::vector<Flags> own;  // by segment
  Flags any(static_cast<std::size_t>(columns), 0);
  for (const Segment& s : segments) {
    check(s.prefix < 0, "a shared prefix with outlier columns per sequence");
    own.push_back(outlier_columns(in, columns, s, threshold));
    std::transform(any.begin(), any.end(), own.back().begin(), any.begin(), [](char a, char b) { return a | b; });
  }
  std::vector<std::int32_t> kept;
  for (std::int64_t i = 0; i < columns; ++i) {
    if (any[static_cast<std::size_t>(i)] != 0) kept.push_back(static_cast<std::int32_t>(i));
  }
  if (kept.empty()) return ops.quantize_rows(x, bits);

  // What the integers see: without the outlier columns, against the absmax of the entries below the threshold.
  const auto count = static_cast<std::int64_t>(kept.size());
  const Tensor rest = host.clone();
  const Tensor absmax = Tensor::zeros(DType::f32, {rows});
  const Tensor outliers = Tensor::zeros(DType::f32, {rows, count});
  for (std::size_t k = 0; k < segments.size(); ++k) {
    for (std::int64_t t = segments[k].begin; t < segments[k].end; ++t) {
      float largest = 0.0f;
      for (std::int64_t i = 0; i < columns; ++i) {
        const float size = std::fabs(in[t * columns + i]);
        if (!(size >= threshold)) largest = size > largest || std::isnan(size) ? size : largest;
      }
      absmax.data<float>()[t] = largest;
      for (std::int64_t c = 0; c < count; ++c) {
        const std::int32_t column = kept[static_cast<std::size_t>(c)];
        if (own[k][static_cast<std::size_t>(column)] == 0) continue;
        outliers.data<float>()[t * count + c] = in[t * columns + column];
        rest.data<float>()[t * columns + column] = 0.0f;
      }
    }
  }
  Int8Rows out = ops.quantize_rows(ops.to_device(rest.to(x.dtype())), bits, ops.to_device(absmax));
  out.outliers = ops.to_device(outliers);
  out.outlier_columns = ops.to_device(Tensor::of(kept, {count}));
  return out;
}

}  // namespace ptq

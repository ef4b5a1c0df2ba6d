// The loop around PackedWeight::multiply: x [R, I] times a packed weight, one (64 rows x panel) block at a time, all
// blocks in parallel. What becomes of a block (bias and rounding, log-softmax statistics, int8 scales) is the
// caller's `use`.
#pragma once

#include "host/cpu/packed_weight.h"
#include "host/cpu/simd.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace ptq {

// Rows of a product's left operand; row r of the product is x[row(r)] (all rows in order when `rows` is empty).
struct RowSource {
  const Tensor& x;  // [R, I]: the weight's operand type, or a half type for expanded weights
  std::span<const std::int32_t> rows;

  std::int64_t count() const { return rows.empty() ? x.rows() : static_cast<std::int64_t>(rows.size()); }
  std::int64_t row(std::int64_t r) const { return rows.empty() ? r : rows[static_cast<std::size_t>(r)]; }
};

namespace detail {

// 64 contiguous rows for the library: in place where possible, else gathered, converted and padded with zeros.
template <class From, class To>
const void* gather(const RowSource& source, std::int64_t first, std::int64_t count) {
  const std::int64_t width = source.x.cols();
  const From* x = source.x.data<From>();
  const std::int64_t start = source.row(first);
  if (std::is_same_v<From, To> && count == row_tile && source.row(first + count - 1) == start + count - 1) {
    return x + start * width;  // rows are sorted, so equal distance means contiguous
  }
  To* tile = scratch<To>(1, static_cast<std::size_t>(row_tile * width));
  for (std::int64_t r = 0; r < count; ++r) {
    const From* from = x + source.row(first + r) * width;
    if constexpr (std::is_same_v<From, To>) {
      std::memcpy(tile + r * width, from, static_cast<std::size_t>(width) * sizeof(To));
    } else {
      simd::to_floats(from, tile + r * width, width);
    }
  }
  std::memset(static_cast<void*>(tile + count * width), 0,
              static_cast<std::size_t>((row_tile - count) * width) * sizeof(To));
  return tile;
}

inline const void* gather(const RowSource& source, const PackedWeight& w, std::int64_t first, std::int64_t count) {
  switch (source.x.dtype()) {
    case DType::i8:
      return gather<std::int8_t, std::int8_t>(source, first, count);
    case DType::f16:
      return gather<f16, float>(source, first, count);
    case DType::bf16:
      return w.expanded() ? gather<bf16, float>(source, first, count) : gather<bf16, bf16>(source, first, count);
    default:
      return gather<float, float>(source, first, count);
  }
}

inline DType input_type(WeightFormat format) {
  switch (format) {
    case WeightFormat::bf16:
      return DType::bf16;
    case WeightFormat::f16:
      return DType::f16;
    case WeightFormat::s8:
      return DType::i8;
    default:
      return DType::f32;
  }
}

}  // namespace detail

// use(first, count, panel, p, c): rows [first, first + count) of the product against panel number p, c [64, width]
// of type Sum (float, or int32 for s8); c belongs to `use` and may be overwritten. `source.rows` must be ascending.
template <class Sum, class Use>
void for_each_block(const PackedWeight& w, const RowSource& source, int threads, Use&& use) {
  check(source.x.dtype() == detail::input_type(w.format()) && source.x.cols() == w.in_features(),
        "product of {} {} with a weight of {} columns", name_of(source.x.dtype()), to_string(source.x.shape()),
        w.in_features());
  const auto panels = static_cast<std::int64_t>(w.panels().size());
  const std::int64_t tiles = (source.count() + row_tile - 1) / row_tile;
  if (tiles == 0) return;
  const auto run = [&](std::int64_t tile, std::int64_t p, const void* weights) {
    const Panel& panel = w.panels()[static_cast<std::size_t>(p)];
    const std::int64_t first = tile * row_tile;
    const std::int64_t count = std::min(row_tile, source.count() - first);
    Sum* c = scratch<Sum>(2, static_cast<std::size_t>(row_tile * panel.width));
    w.multiply(panel, detail::gather(source, w, first, count), weights, c);
    use(first, count, panel, p, c);
  };
  if (!w.expanded()) {
    parallel_for(threads, tiles * panels, [&](std::int64_t task) {
      const std::int64_t p = task / tiles;
      run(task % tiles, p, w.panels()[static_cast<std::size_t>(p)].data.data());
    });
    return;
  }
  // Half-stored weights: a group of panels is expanded to at most 16 MiB of fp32 (or one panel), then used.
  const std::int64_t most = w.panels().front().elements;
  const std::int64_t group = std::clamp<std::int64_t>((std::int64_t{4} << 20) / most, 1, panels);
  Buffer<float> weights(static_cast<std::size_t>(group * most));
  for (std::int64_t p0 = 0; p0 < panels; p0 += group) {
    const std::int64_t here = std::min(group, panels - p0);
    constexpr std::int64_t pieces = 8;
    parallel_for(threads, here * pieces, [&](std::int64_t task) {
      const std::int64_t p = task / pieces, piece = task % pieces;
      const Panel& panel = w.panels()[static_cast<std::size_t>(p0 + p)];
      w.expand(panel, weights.data() + p * most, panel.elements * piece / pieces,
               panel.elements * (piece + 1) / pieces);
    });
    parallel_for(threads, here * tiles, [&](std::int64_t task) {
      const std::int64_t p = task / tiles;
      run(task % tiles, p0 + p, weights.data() + p * most);
    });
  }
}

}  // namespace ptq

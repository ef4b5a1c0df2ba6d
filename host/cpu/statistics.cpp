// Sums over activations: per channel, per bin, of squared differences. Memory bound; f64 or integers throughout.
#include "host/cpu/cpu_ops.h"
#include "host/cpu/parallel.h"
#include "host/cpu/simd.h"
#include "host/op_checks.h"

#include <cmath>
#include <limits>
#include <mutex>
#include <vector>

namespace ptq {

namespace {

constexpr std::int64_t column_tile = 64;          // channels summed side by side
constexpr std::int64_t piece_elements = 1 << 16;  // elements summed or counted by one task
constexpr std::int64_t sum_lanes = 8;             // running sums of a piece

// The sums of column_tile channels over all rows, kept in cache; rows are added in order.
struct ChannelTile {
  double moment[5][column_tile];
  float smallest[column_tile], largest[column_tile];

  void add(const float* x) {
    for (std::int64_t c = 0; c < column_tile; ++c) {
      const double v = x[c], square = v * v;
      moment[0][c] += v;
      moment[1][c] += std::fabs(v);
      moment[2][c] += square;
      moment[3][c] += square * v;
      moment[4][c] += square * square;
      smallest[c] = x[c] < smallest[c] ? x[c] : smallest[c];
      largest[c] = x[c] > largest[c] ? x[c] : largest[c];
    }
  }
};

template <class T>
void add_columns(const ChannelSums& sums, const T* x, std::int64_t rows, std::int64_t columns, std::int64_t first) {
  const std::int64_t width = std::min(column_tile, columns - first);
  double* moments = sums.moments.data<double>() + first;
  float* extremes = sums.extremes.data<float>() + first;
  ChannelTile tile{};
  for (std::int64_t m = 0; m < 5; ++m) std::copy_n(moments + m * columns, width, tile.moment[m]);
  std::copy_n(extremes, width, tile.smallest);
  std::copy_n(extremes + columns, width, tile.largest);
  float row[column_tile] = {};
  for (std::int64_t r = 0; r < rows; ++r) {
    simd::to_floats(x + r * columns + first, row, width);
    tile.add(row);
  }
  for (std::int64_t m = 0; m < 5; ++m) std::copy_n(tile.moment[m], width, moments + m * columns);
  std::copy_n(tile.smallest, width, extremes);
  std::copy_n(tile.largest, width, extremes + columns);
}

// Slot 0 lies below lo, slot b + 1 is bin b, slot B + 1 begins at hi. The division guesses a slot, at most one off; the
// edges, which are the definition, correct it.
class Slots {
 public:
  Slots(double lo, double hi, std::int64_t bins)
      : lo_(lo), scale_(static_cast<double>(bins) / (hi - lo)), last_(static_cast<double>(bins + 1)) {
    begin_.push_back(-std::numeric_limits<double>::infinity());
    for (std::int64_t b = 0; b < bins; ++b) {
      begin_.push_back(lo + (hi - lo) * static_cast<double>(b) / static_cast<double>(bins));
    }
    begin_.push_back(hi);
    begin_.push_back(std::numeric_limits<double>::quiet_NaN());  // no number lies beyond the last slot
  }

  void count(const float* x, std::int64_t n, std::int64_t* counts) const {  // n <= chunk
    std::int32_t guess[chunk];
    for (std::int64_t i = 0; i < n; ++i) {
      const double at = (double{x[i]} - lo_) * scale_ + 1.0;
      const double low = at > 0.0 ? at : 0.0;  // NaN too
      guess[i] = static_cast<std::int32_t>(low < last_ ? low : last_);
    }
    for (std::int64_t i = 0; i < n; ++i) {
      const double v = x[i];
      const double* begin = begin_.data() + guess[i];
      const std::int64_t slot = guess[i] + (v >= begin[1] ? 1 : 0) - (v < begin[0] ? 1 : 0);
      counts[slot] += std::isnan(v) ? 0 : 1;
    }
  }

  static constexpr std::int64_t chunk = 256;

 private:
  double lo_, scale_, last_;
  std::vector<double> begin_;  // of each slot
};

}  // namespace

void CpuOps::channel_sums(const ChannelSums& sums, const Tensor& x) {
  const std::int64_t rows = x.rows(), columns = x.cols();
  op_checks::channel_sums(sums, x);
  simd::dispatch(x.dtype(), [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const T* in = x.data<T>();
    parallel_for(threads_, (columns + column_tile - 1) / column_tile,
                 [&](std::int64_t tile) { add_columns(sums, in, rows, columns, tile * column_tile); });
  });
}

void CpuOps::histogram(const Tensor& counts, const Tensor& x, double lo, double hi) {
  const std::int64_t bins = counts.numel() - 2;
  op_checks::histogram(counts, lo, hi);
  const Slots slots(lo, hi, bins);
  std::mutex mutex;  // integers: the order of the pieces does not matter
  simd::dispatch(x.dtype(), [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const T* in = x.data<T>();
    parallel_ranges(threads_, x.numel(), piece_elements, [&](std::int64_t begin, std::int64_t end) {
      std::vector<std::int64_t> here(static_cast<std::size_t>(bins + 2));
      float x_chunk[Slots::chunk];
      for (std::int64_t i = begin; i < end; i += Slots::chunk) {
        const std::int64_t n = std::min(Slots::chunk, end - i);
        simd::to_floats(in + i, x_chunk, n);
        slots.count(x_chunk, n, here.data());
      }
      const std::lock_guard lock(mutex);
      auto* total = counts.data<std::int64_t>();
      for (std::int64_t b = 0; b < bins + 2; ++b) total[b] += here[static_cast<std::size_t>(b)];
    });
  });
}

double CpuOps::squared_difference(const Tensor& a, const Tensor& b) {
  op_checks::squared_difference(a, b);
  std::vector<double> piece(static_cast<std::size_t>((a.numel() + piece_elements - 1) / piece_elements));
  simd::dispatch(a.dtype(), [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const T *x = a.data<T>(), *y = b.data<T>();
    parallel_ranges(threads_, a.numel(), piece_elements, [&](std::int64_t begin, std::int64_t end) {
      double sum[sum_lanes] = {};
      const auto square = [&](std::int64_t i) {
        const double d = to_float(x[i]) - to_float(y[i]);
        return d * d;
      };
      std::int64_t i = begin;
      for (; i + sum_lanes <= end; i += sum_lanes) {
        for (std::int64_t l = 0; l < sum_lanes; ++l) sum[l] += square(i + l);
      }
      for (; i < end; ++i) sum[0] += square(i);
      double total = 0.0;
      for (const double s : sum) total += s;
      piece[static_cast<std::size_t>(begin / piece_elements)] = total;
    });
  });
  double sum = 0.0;
  for (const double p : piece) sum += p;
  return sum;
}

}  // namespace ptq

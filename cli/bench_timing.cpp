#include "cli/bench_timing.h"

#include "host/range.h"

#include <algorithm>

namespace ptq {

namespace {

double quantile(const std::vector<double>& sorted, double q) {
  return sorted[static_cast<std::size_t>(q * static_cast<double>(sorted.size() - 1) + 0.5)];
}

double value_of(const Tensor& t, std::int64_t i) {
  switch (t.dtype()) {
    case DType::f32:
      return t.data<float>()[i];
    case DType::bf16:
      return to_float(t.data<bf16>()[i]);
    case DType::f16:
      return to_float(t.data<f16>()[i]);
    case DType::u8:
      return t.data<std::uint8_t>()[i];
    case DType::i8:
      return t.data<std::int8_t>()[i];
    case DType::i64:
      return static_cast<double>(t.data<std::int64_t>()[i]);
    default:
      fail(Exit::internal, "bench: a result of {}", name_of(t.dtype()));
  }
}

// rms(a - b) / rms(b); NaN if either holds one.
double difference(const Tensor& a, const Tensor& b) {
  check(a.shape() == b.shape() && a.dtype() == b.dtype(), "bench: results {} and {}", to_string(a.shape()),
        to_string(b.shape()));
  double error = 0.0, size = 0.0;
  for (std::int64_t i = 0; i < a.numel(); ++i) {
    const double x = value_of(a, i), y = value_of(b, i);
    error += (x - y) * (x - y);
    size += y * y;
  }
  return error == 0.0 ? 0.0 : std::sqrt(error / size);
}

Tensor result_of(const BenchRun& work) {
  work.setup();
  work.run();
  return work.result();
}

double time_once(Ops& ops, const BenchRun& work, const char* who) {
  work.setup();
  ops.evict_caches();
  ops.synchronize();
  const Range range(ops, who);
  return ops.seconds(work.run);
}

}  // namespace

BenchRow measure(const BenchCase& test, Ops& ops, const BenchOpponent& opponent, Ops* reference, double budget) {
  constexpr std::size_t fewest = 5, most = 50;
  BenchRow row;
  row.test = &test;
  const bool compete = opponent.ops != nullptr;
  const Range range(ops, "{} {}", test.op, test.shape);
  const BenchRun own = test.prepare(ops), other = compete ? opponent.test->prepare(*opponent.ops) : BenchRun{};
  if (reference != nullptr) {
    const Tensor right = result_of(test.prepare(*reference));
    row.error = difference(result_of(own), right);
    require(row.error <= test.tolerance, Exit::numerics,
            "bench: {} ({}): differs from the CPU backend by {:.3g}, allowed {:.3g}", test.op, test.shape, row.error,
            test.tolerance);
    if (compete && opponent.test->op == test.op) row.opponent_error = difference(result_of(other), right);
  }
  time_once(ops, own, "warm up");
  if (compete) time_once(*opponent.ops, other, "warm up");
  std::vector<double> seconds, ratios;
  for (double spent = 0; seconds.size() < fewest || (spent < budget && seconds.size() < most);) {
    seconds.push_back(time_once(ops, own, "own"));
    spent += seconds.back();
    if (!compete) continue;
    const double theirs = time_once(*opponent.ops, other, "yardstick");
    ratios.push_back(theirs / seconds.back());
    spent += theirs;
  }
  std::ranges::sort(seconds);
  row.seconds = quantile(seconds, 0.5);
  row.spread = (quantile(seconds, 0.75) - quantile(seconds, 0.25)) / 2;
  if (compete) {
    std::ranges::sort(ratios);
    // The median lies between these order statistics with 95 % (normal approximation of the binomial distribution),
    // however ratios are distributed.
    const auto n = static_cast<double>(ratios.size());
    const auto below = static_cast<std::size_t>(std::max(0.0, std::floor((n - 1.96 * std::sqrt(n)) / 2)));
    row.opponent = opponent.name;
    row.ratio = quantile(ratios, 0.5);
    row.ratio_low = ratios[below];
    row.ratio_high = ratios[ratios.size() - 1 - below];
  }
  return row;
}

double copy_rate(Ops& ops, std::int64_t shrink) {
  const std::int64_t rows = 8192 / shrink, columns = 2048;
  const Tensor x = ops.to_device(Tensor::zeros(DType::f32, {rows, columns})),
               y = ops.empty(DType::f32, {rows, columns}), order = Tensor::empty(DType::i32, {rows});
  for (std::int64_t r = 0; r < rows; ++r) order.data<std::int32_t>()[r] = static_cast<std::int32_t>(r);
  const Tensor index = ops.to_device(order);
  const BenchRun copy{[&] { ops.gather_rows(y, x, index); }, {}};
  time_once(ops, copy, "copy");
  std::vector<double> seconds;
  for (int i = 0; i < 9; ++i) seconds.push_back(time_once(ops, copy, "copy"));
  std::ranges::sort(seconds);
  return 2.0 * static_cast<double>(x.bytes()) / quantile(seconds, 0.5) / 1e9;
}

}  // namespace ptq

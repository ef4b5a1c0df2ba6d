// Linear layers: y = x W^T + b. linear() in (64 rows x panel) library calls; linear_few() in strips of 64 output
// columns, each read once, for decoding.
#include "host/cpu/block_product.h"
#include "host/cpu/coded_weight.h"
#include "host/cpu/cpu_ops.h"
#include "host/cpu/int8_weight.h"
#include "host/op_checks.h"

#include <chrono>

namespace ptq {

CpuOps::CpuOps(int threads) : threads_(threads > 0 ? threads : omp_get_max_threads()) {}

std::string CpuOps::description() const {
  return fmt::format("cpu: {}, {} thread{}", cpu_description(), threads_, threads_ == 1 ? "" : "s");
}

double CpuOps::seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void CpuOps::evict_caches() {
  constexpr std::size_t larger_than_caches = std::size_t{256} << 20;
  static std::vector<char> memory;
  memory.assign(larger_than_caches, 0);
}

std::unique_ptr<Ops> make_cpu_ops(int threads) { return std::make_unique<CpuOps>(threads); }

WeightPtr CpuOps::pack(const Tensor& w, WeightFormat format) {
  if (format == WeightFormat::s8) return std::make_shared<Int8Weight>(w, threads_);
  check(format != WeightFormat::u4 && format != WeightFormat::u8, "pack: codes are for pack_codes");
  return std::make_shared<FloatWeight>(w, format, threads_);
}

WeightPtr CpuOps::pack_codes(const CodedWeight& w, DType compute) {
  op_checks::pack_codes(w, compute);
  return std::make_shared<CodedPanels>(w, compute, threads_);
}

void CpuOps::linear(const Tensor& y, const Tensor& x, const Weight& weight, const Tensor& b) {
  const PackedWeight& w = packed(weight);
  op_checks::linear("linear", w.input(), w.input(), y, x, w, b);
  const std::int64_t n = w.out_features();
  const float* bias = b ? b.data<float>() : nullptr;
  simd::dispatch(y.dtype(), [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    T* out = y.data<T>();
    for_each_block<float>(w, {x, {}}, threads_,
                          [&](std::int64_t first, std::int64_t count, const Panel& panel, std::int64_t, float* c) {
                            finish(out + first * n + panel.begin, n, c, panel.width, count, panel.width,
                                   bias == nullptr ? nullptr : bias + panel.begin);
                          });
  });
}

void CpuOps::linear_few(const Tensor& y, const Tensor& x, const Weight& weight, const Tensor& b) {
  constexpr std::size_t alone = 128 * 1024;  // bytes that one thread reads faster than another wakes up
  const PackedWeight& w = packed(weight);
  op_checks::linear_few(w.input(), y, x, w, b);
  const std::int64_t rows = x.rows(), n = w.out_features(), i = w.in_features();
  struct Task {
    const Panel* panel;
    std::int64_t column;
  };
  std::vector<Task> tasks;
  for (const Panel& panel : w.panels()) {
    for (std::int64_t c = 0; c < panel.width; c += strip_width) tasks.push_back({&panel, c});
  }
  float* wide = scratch<float>(3, static_cast<std::size_t>(rows * i));  // x, shared by all threads
  simd::dispatch(x.dtype(),
                 [&](auto* type) { simd::to_floats(x.data<std::remove_pointer_t<decltype(type)>>(), wide, rows * i); });
  simd::dispatch(y.dtype(), [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    parallel_for(w.bytes() < alone ? 1 : threads_, static_cast<std::int64_t>(tasks.size()), [&](std::int64_t t) {
      const auto [panel, column] = tasks[static_cast<std::size_t>(t)];
      const std::int64_t width = std::min(strip_width, panel->width - column), first = panel->begin + column;
      float* sums = scratch<float>(2, static_cast<std::size_t>(rows * strip_width));
      w.multiply_strip(*panel, column, wide, rows, sums);
      finish(y.data<T>() + first, n, sums, strip_width, rows, width, b ? b.data<float>() + first : nullptr);
    });
  });
}

}  // namespace ptq

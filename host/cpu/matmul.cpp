// Linear layers: y = x W^T + b.
#include "host/cpu/block_product.h"
#include "host/cpu/cpu_ops.h"

namespace ptq {

namespace {

// Adds the bias and rounds a block of fp32 sums into y.
template <class T>
void finish(T* y, std::int64_t ldy, float* c, std::int64_t count, std::int64_t width, const float* bias) {
  for (std::int64_t r = 0; r < count; ++r) {
    float* row = c + r * width;
    if (bias != nullptr) {
      for (std::int64_t n = 0; n < width; ++n) row[n] += bias[n];
    }
    simd::from_floats(row, y + r * ldy, width);
  }
}

}  // namespace

CpuOps::CpuOps(int threads) : threads_(threads > 0 ? threads : omp_get_max_threads()) {}

std::string CpuOps::description() const {
  return fmt::format("cpu: {}, {} thread{}", cpu_description(), threads_, threads_ == 1 ? "" : "s");
}

std::unique_ptr<Ops> make_cpu_ops(int threads) { return std::make_unique<CpuOps>(threads); }

WeightPtr CpuOps::pack(const Tensor& w, WeightFormat format) {
  return std::make_shared<PackedWeight>(w, format, threads_);
}

void CpuOps::linear(const Tensor& y, const Tensor& x, const Weight& weight, const Tensor& b) {
  const PackedWeight& w = packed(weight);
  const std::int64_t n = w.out_features();
  check(w.format() != WeightFormat::s8, "linear: int8 weights are for linear_s8");
  check(y.dtype() == x.dtype() && y.cols() == n && y.rows() == x.rows(), "linear: y {} {} for x {} {} and N = {}",
        name_of(y.dtype()), to_string(y.shape()), name_of(x.dtype()), to_string(x.shape()), n);
  check(!b || b.numel() == n, "linear: bias {} for N = {}", to_string(b.shape()), n);
  const float* bias = b ? b.data<float>() : nullptr;
  simd::dispatch(y.dtype(), [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    T* out = y.data<T>();
    for_each_block<float>(w, {x, {}}, threads_,
                          [&](std::int64_t first, std::int64_t count, const Panel& panel, std::int64_t, float* c) {
                            finish(out + first * n + panel.begin, n, c, count, panel.width,
                                   bias == nullptr ? nullptr : bias + panel.begin);
                          });
  });
}

}  // namespace ptq

// Inputs of the cases of `ptq bench`, seeded, on the host; and what the cases count with.
#pragma once

#include "host/ops.h"

#include <string_view>

namespace ptq {

// [rows, columns], normal numbers with an outlier channel in 500: zeros or constants would flatter a GPU's clock.
Tensor bench_activations(DType dtype, std::int64_t rows, std::int64_t columns, std::uint64_t seed,
                         float deviation = 1.0f);
Tensor bench_weights(DType dtype, std::int64_t n, std::int64_t i);

// Random codes of [n, i] in groups of 128 columns.
CodedWeight bench_codes(int bits, std::int64_t n, std::int64_t i);

// A Hessian of random activations, damped [n, n]; its upper triangle, zeros below.
Tensor bench_hessian(std::int64_t n);
Tensor upper_triangle(const Tensor& h);

// An operand that runs change in place. Called, it is as it was on the host: a BenchRun's setup.
class Renewed {
 public:
  Renewed(Ops& ops, Tensor host) : ops_(&ops), host_(std::move(host)) {}
  void operator()() const { *device_ = ops_->to_device(host_.clone()); }
  const Tensor& tensor() const { return *device_; }

 private:
  Ops* ops_;
  Tensor host_;
  std::shared_ptr<Tensor> device_ = std::make_shared<Tensor>();  // that of all copies of this object
};

// The rounding of sums in fp32 and of the output, with room for their order.
double float_tolerance(DType type);
std::string_view short_name(DType type);  // "bf16", "s8"

inline double area(std::int64_t a, std::int64_t b) { return static_cast<double>(a) * static_cast<double>(b); }
inline double product_flops(std::int64_t t, std::int64_t n, std::int64_t i) {
  return 2.0 * area(t, n) * static_cast<double>(i);
}

}  // namespace ptq

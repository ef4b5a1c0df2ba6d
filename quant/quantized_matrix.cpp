#include "quant/quantized_matrix.h"

#include <numeric>

namespace ptq {

namespace {

// A sum per row first, then over the rows in order: the same bits for any number of threads.
template <class Term>
Tensor row_sums(std::int64_t rows, std::int64_t cols, const Term& term) {
  Tensor sums = Tensor::empty(DType::f64, {rows});
  double* out = sums.data<double>();
#pragma omp parallel for schedule(static)
  for (std::int64_t n = 0; n < rows; ++n) {
    double sum = 0.0;
    for (std::int64_t k = 0; k < cols; ++k) sum += term(n * cols + k);
    out[n] = sum;
  }
  return sums;
}

double total(const Tensor& sums) {
  const auto values = sums.span<double>();
  return std::accumulate(values.begin(), values.end(), 0.0);
}

}  // namespace

Tensor squared_error_rows(const Tensor& w, const Tensor& q) {
  const float* a = w.data<float>();
  const float* b = q.data<float>();
  return row_sums(w.rows(), w.cols(), [=](std::int64_t i) {
    const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    return d * d;
  });
}

double relative_error(const Tensor& w, const Tensor& q) {
  const float* a = w.data<float>();
  const double norm = total(row_sums(
      w.rows(), w.cols(), [=](std::int64_t i) { return static_cast<double>(a[i]) * static_cast<double>(a[i]); }));
  return norm > 0.0 ? total(squared_error_rows(w, q)) / norm : 0.0;
}

void require_finite(Ops& ops, const Tensor& values, const std::string& where) {
  const std::int64_t bad = ops.count_nonfinite(values);
  require(bad == 0, Exit::numerics, "{}: {} of {} values are NaN or infinite", where, bad, values.numel());
}

}  // namespace ptq

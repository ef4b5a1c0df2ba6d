// linear_few, the linear of decoding.
#include "cuda/backend/coded_weight.h"
#include "cuda/backend/float_weight.h"
#include "cuda/backend/linear.h"
#include "cuda/gemv.h"

namespace ptq::cuda {

void CudaOps::linear_few(const Tensor& y, const Tensor& x, const Weight& weight, const Tensor& b) {
  check_linear("linear_few", y.dtype() == DType::f32 ? DType::f32 : x.dtype(), y, x, weight, b);
  check(x.rows() <= gemv_most_rows, "linear_few: {} rows", x.rows());
  const Tensor rows = aligned_rows(*this, stream_, x);
  const FewRows few{device_raw(y),
                    y.dtype(),
                    device_raw(rows),
                    x.dtype(),
                    b ? device_data<float>(b) : nullptr,
                    x.rows(),
                    weight.out_features(),
                    weight.in_features(),
                    rows.cols()};
  if (weight.format() == WeightFormat::u4 || weight.format() == WeightFormat::u8) {
    const PackedCodes& w = packed_codes(weight);
    check(x.dtype() == w.compute(), "linear_few: x {} for a weight for {}", name_of(x.dtype()), name_of(w.compute()));
    gemv_coded(few, w.view(), stream_);
  } else {
    const FloatWeight& w = float_weight(weight);
    gemv_float(few, w.data(), w.ld(), stream_);
  }
}

}  // namespace ptq::cuda

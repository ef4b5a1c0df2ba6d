// linear_few, the linear of decoding.
#include "cuda/backend/coded_weight.h"
#include "cuda/backend/float_weight.h"
#include "cuda/backend/linear.h"
#include "cuda/gemv.h"
#include "host/op_checks.h"

namespace ptq::cuda {

void CudaOps::linear_few(const Tensor& y, const Tensor& x, const Weight& weight, const Tensor& b) {
  op_checks::linear_few(input_of(weight), y, x, weight, b);
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
  if (coded(weight)) {
    gemv_coded(few, packed_codes(weight).view(), stream_);
  } else {
    const FloatWeight& w = float_weight(weight);
    launchers_.gemv_float(few, w.data(), w.ld(), stream_);
  }
}

}  // namespace ptq::cuda

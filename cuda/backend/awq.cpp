// AWQ's scaled rounding and clip search.
#include "cuda/awq.h"

#include "cuda/backend/cuda_ops.h"
#include "host/op_checks.h"

#include <limits>

namespace ptq::cuda {

void CudaOps::round_scaled(const Tensor& out, const Tensor& w, const Tensor& t, const GridSpec& grid,
                           std::int64_t group) {
  const std::int64_t rows = w.rows(), columns = w.cols(), width = group < 0 ? columns : group;
  op_checks::round_scaled(out, w, t, group);
  if (rows == 0) return;
  cuda::round_scaled(device_data<float>(out), device_data<float>(w), device_data<float>(t), rows, columns, width, grid,
                     stream_);
}

void CudaOps::clip_search(const Tensor& clip, const Tensor& w, const Tensor& x, const GridSpec& grid,
                          std::int64_t group) {
  const std::int64_t rows = w.rows(), columns = w.cols(), width = group < 0 ? columns : group, tokens = x.rows();
  op_checks::clip_search(clip, w, x, grid, group);
  check(std::max({rows, columns, tokens}) < std::numeric_limits<int>::max() / 2, "clip_search: W {}, X {}",
        to_string(w.shape()), to_string(x.shape()));
  const ClipFactor factor = clip_factor(tokens, width);
  const Tensor b = empty(DType::f32, {columns, factor.pitch});
  form_clip_factor(device_data<float>(b), factor, device_data<float>(x), columns, tokens, width, stream_);
  cuda::clip_search({device_data<float>(clip), device_data<float>(w), device_data<float>(b), factor,
                     static_cast<int>(rows), static_cast<int>(columns), static_cast<int>(width), grid},
                    stream_);
}

}  // namespace ptq::cuda

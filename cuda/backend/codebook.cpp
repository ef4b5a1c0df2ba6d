// Rounding to code books.
#include "cuda/codebook.h"

#include "cuda/backend/cuda_ops.h"
#include "host/op_checks.h"

namespace ptq::cuda {

void CudaOps::round_to_book(const Tensor& codes, const Tensor& absmax, const Tensor& w, CodeBook book) {
  op_checks::round_to_book(codes, absmax, w, book);
  cuda::round_to_book(device_data<std::uint8_t>(codes), device_data<float>(absmax), device_data<float>(w), w.rows(),
                      w.cols(), book, stream_);
}

void CudaOps::fake_round_to_book(const Tensor& y, const Tensor& x, CodeBook book, std::int64_t block) {
  op_checks::fake_round_to_book(y, x, book, block);
  cuda::fake_round_to_book(device_raw(y), device_raw(x), x.dtype(), x.rows(), x.cols(), book, block, stream_);
}

}  // namespace ptq::cuda

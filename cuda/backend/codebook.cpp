// Rounding to code books.
#include "cuda/codebook.h"

#include "cuda/backend/cuda_ops.h"

namespace ptq::cuda {

namespace {

void check_book(CodeBook book) { check(!book.empty() && book.size() <= 256, "code book of {} values", book.size()); }

}  // namespace

void CudaOps::round_to_book(const Tensor& codes, const Tensor& absmax, const Tensor& w, CodeBook book) {
  const std::int64_t rows = w.rows();
  check(codes.shape() == w.shape() && absmax.numel() == rows, "round_to_book: W {}, codes {}, absmax {}",
        to_string(w.shape()), to_string(codes.shape()), to_string(absmax.shape()));
  check_book(book);
  cuda::round_to_book(device_data<std::uint8_t>(codes), device_data<float>(absmax), device_data<float>(w), rows,
                      w.cols(), book, stream_);
}

void CudaOps::fake_round_to_book(const Tensor& y, const Tensor& x, CodeBook book, std::int64_t block) {
  check(y.dtype() == x.dtype() && y.shape() == x.shape() && block > 0, "fake_round_to_book: {} {} and {} {}, block {}",
        name_of(y.dtype()), to_string(y.shape()), name_of(x.dtype()), to_string(x.shape()), block);
  check_book(book);
  cuda::fake_round_to_book(device_raw(y), device_raw(x), x.dtype(), x.rows(), x.cols(), book, block, stream_);
}

}  // namespace ptq::cuda

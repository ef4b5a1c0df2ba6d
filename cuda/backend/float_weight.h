// Weights of f32, bf16 and f16 on the device: the elements as they are, in rows that are padded with zeros to whole
// tiles of k, so that products need no bounds along a row of W and every row begins at a multiple of 64 bytes.
#pragma once

#include "cuda/backend/device_weight.h"
#include "cuda/stream.h"

namespace ptq::cuda {

class CudaOps;

class FloatWeight final : public DeviceWeight {
 public:
  // w [N,I] on the host or the device, of any float type; rounded to that of the format.
  FloatWeight(CudaOps& ops, Stream stream, const Tensor& w, WeightFormat format);

  std::int64_t out_features() const override { return n_; }
  std::int64_t in_features() const override { return i_; }
  WeightFormat format() const override { return format_; }
  std::vector<Tensor*> parts() override { return {&data_}; }

  DType dtype() const { return data_.dtype(); }     // of the weight and of the activations it takes
  std::int64_t ld() const { return data_.cols(); }  // elements from row to row, a multiple of 64 bytes
  const void* data() const;                         // [N, ld] on the device, columns I..ld are zeros

 private:
  std::int64_t n_, i_;
  WeightFormat format_;
  Tensor data_;
};

// The weight behind a WeightPtr of this backend; exit 70 if it is of another kind.
const FloatWeight& float_weight(const Weight& w);

DType dtype_of_format(WeightFormat format);  // of f32, bf16, f16

}  // namespace ptq::cuda

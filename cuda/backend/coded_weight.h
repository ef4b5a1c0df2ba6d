// Weights of u4 and u8 codes on the device, laid out once for the kernels (layout: cuda/coded.h). Grids are kept as f16
// if all of them are f16 numbers, as those of most checkpoints are, else as f32.
#pragma once

#include "cuda/backend/cuda_ops.h"
#include "cuda/backend/device_weight.h"
#include "cuda/coded.h"

namespace ptq::cuda {

class PackedCodes final : public DeviceWeight {
 public:
  PackedCodes(CudaOps& ops, Stream stream, const CodedWeight& w, DType compute);

  std::int64_t out_features() const override { return form_.n; }
  std::int64_t in_features() const override { return form_.i; }
  WeightFormat format() const override { return form_.bits == 4 ? WeightFormat::u4 : WeightFormat::u8; }
  std::vector<Tensor*> parts() override { return {&codes_, &grids_, &groups_}; }

  DType compute() const { return compute_; }  // the type of x, to which values are rounded
  CodedView view() const;

 private:
  DType compute_;
  Tensor codes_, grids_, groups_;
  CodedView form_{};  // without the addresses
};

// The weight behind a WeightPtr of this backend; exit 70 if it is of another kind.
const PackedCodes& packed_codes(const Weight& w);

// linear() with codes: y = x W^T + b, the bits of linear() with the dequantized weight. y may also be f32.
void linear_coded(CudaOps& ops, Stream stream, const Tensor& y, const Tensor& x, const Weight& w, const Tensor& b);

}  // namespace ptq::cuda

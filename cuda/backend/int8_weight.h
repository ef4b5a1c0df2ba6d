// int8 codes with a scale per output row, on the device.
#pragma once

#include "cuda/backend/device_weight.h"

namespace ptq::cuda {

class CudaOps;

class Int8Weight final : public DeviceWeight {
 public:
  // codes [N, stride] i8 of which a row's first `in_features` count and the rest is 0, scales [N] f32; on the device.
  Int8Weight(Tensor codes, Tensor scales, std::int64_t in_features);

  std::int64_t out_features() const override { return codes_.rows(); }
  std::int64_t in_features() const override { return in_features_; }
  WeightFormat format() const override { return WeightFormat::s8; }
  std::vector<Tensor*> parts() override { return {&codes_, &scales_}; }

  const Tensor& codes() const { return codes_; }
  const Tensor& scales() const { return scales_; }
  std::int64_t stride() const { return codes_.cols(); }  // of a row, in bytes: a multiple of 16

 private:
  Tensor codes_, scales_;
  std::int64_t in_features_;
};

// W [N,I] (host, float) to codes of 8 bits, scale absmax / 127 per row: Ops::pack for s8.
WeightPtr pack_absmax_s8(CudaOps& ops, const Tensor& w);

}  // namespace ptq::cuda

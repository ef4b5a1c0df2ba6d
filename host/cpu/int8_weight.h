// int8 codes with a scale per output row, in the layout of the library's s8 x s8 -> s32 product; without VNNI, plain
// rows and a plain loop.
#pragma once

#include "host/cpu/packed_weight.h"

#include <span>

namespace ptq {

class Int8Weight final : public PackedWeight {
 public:
  Int8Weight(const Tensor& w, int threads);                            // absmax codes of each row are computed
  Int8Weight(const Tensor& codes, const Tensor& scales, int threads);  // [N,I] i8, [N] f32

  std::size_t bytes() const override;
  void multiply(const Panel& panel, std::int64_t rows, const void* x, const void* weights, void* c) const override;

  const float* scales() const { return scales_.data(); }  // [N]

  // to [columns][N] = code * scale of the chosen input columns.
  void gather_columns(std::span<const std::int32_t> columns, float* to, int threads) const;

 private:
  Int8Weight(std::int64_t n, std::int64_t i);
  void pack(Panel& panel, const std::int8_t* codes);

  Buffer<float> scales_;
};

const Int8Weight& packed_int8(const Weight& w);  // exit 70 if it is something else

}  // namespace ptq

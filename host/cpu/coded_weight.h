// Weights kept as unsigned integer codes (WeightFormat u4, u8) and multiplied as floats: a panel is expanded to the
// library's operand for linear(), 64 columns x 64 rows at a time for linear_few(). Values scale * (code - zero) are
// formed in fp32 and rounded to the compute dtype, exactly as packing the dequantized weight would.
//
// Layout: strips of 64 output rows; in a strip, 32-bit words [I / codes per word][64], word (j, n) holding the codes
// of 8 (u4) or 4 (u8) consecutive input columns of row n from the low bits up; and grids [G][scale, zero][64], f16 if
// all of them are f16 numbers, as those of most checkpoints are, else f32.
#pragma once

#include "host/cpu/packed_weight.h"

namespace ptq {

class CodedPanels final : public PackedWeight {
 public:
  CodedPanels(const CodedWeight& w, DType compute, int threads);

  std::size_t bytes() const override;
  bool expanded() const override { return true; }
  void expand(const Panel& panel, std::byte* to, std::int64_t part, std::int64_t parts) const override;
  Strip strip(const Panel& panel, std::int64_t n, std::int64_t k0, std::int64_t k1, float* buffer) const override;
  void multiply_strip(const Panel& panel, std::int64_t n, const float* x, std::int64_t rows,
                      float* sums) const override;

 private:
  int code_bits() const { return format() == WeightFormat::u4 ? 4 : 8; }
  void pack(std::int64_t strip, const CodedWeight& w);
  // Calls use(k, v, value) for rows [k0, k1) of W^T in a strip and all its vectors v; k0 starts a word.
  template <class Compute, int bits, class Grid, class Use>
  void for_each_value(std::int64_t strip, std::int64_t k0, std::int64_t k1, const Grid* grids, Use&& use) const;
  template <class Use>
  void for_each_value(std::int64_t strip, std::int64_t k0, std::int64_t k1, Use&& use) const;

  std::int64_t strips_, words_, groups_;  // words_: of a row
  Buffer<std::uint32_t> codes_;           // [strips][words][64]
  bool half_grids_ = false;
  Buffer<float> grids_;         // [strips][G][2][64], or
  Buffer<f16> grids_of_f16_;    // the same
  Buffer<std::int32_t> group_;  // [I]
};

}  // namespace ptq

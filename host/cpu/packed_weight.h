// Weights laid out once for oneDNN: column panels of about 512 output rows, each in the blocked layout that the
// library's matmul primitive for 64 input rows wants. Every product of the CPU backend is a sequence of these
// (64 rows x panel) library calls, so a row's result depends neither on its place in the batch nor on threads.
//
// What a panel stores is the business of the kinds of weight: floats (here), int8_weight.h, coded_weight.h. Some store
// less than the library multiplies and expand a panel before use: integer codes; f16 always, and bf16 where the CPU
// has no bf16 products, which become fp32: products of two halves are exact in fp32, only speed differs.
#pragma once

#include "host/cpu/library.h"
#include "host/cpu/parallel.h"
#include "host/ops.h"

#include <memory>
#include <vector>

namespace ptq {

// Decoding (linear_few) works on 64 output columns at a time, 64 input columns of them at a time, which stay in the
// first-level cache when they have to be expanded. Panels begin at multiples of strip_width.
inline constexpr std::int64_t strip_width = 64, strip_depth = 64;

struct Panel {
  std::int64_t begin = 0;                  // first output row
  std::int64_t width = 0;                  // output rows
  std::shared_ptr<const Product> product;  // shared by panels of one width; empty: int8 without VNNI
  std::shared_ptr<const Product> few;      // int8 with VNNI: of few_row_tile rows, with the same weights
  Buffer<std::byte> data;
};

// Part of W^T in fp32: element (k, n) at data[k * row + n].
struct Strip {
  const float* data;
  std::int64_t row, width;  // columns: those of the panel, or all of the strip, the rest being zeros
};

// Base of all kinds. Construction makes panels and their products; the kind fills them.
class PackedWeight : public Weight {
 public:
  std::int64_t out_features() const final { return n_; }
  std::int64_t in_features() const final { return i_; }
  WeightFormat format() const final { return format_; }

  const std::vector<Panel>& panels() const { return panels_; }
  DType input() const { return input_; }      // element type of x
  DType operand() const { return operand_; }  // element type of the library's inputs

  // c [rows, width] (f32, or s32 for s8) = x [rows, I] W_panel^T; rows = row_tile, or few_row_tile for s8. `weights`:
  // the panel's data or its expansion.
  virtual void multiply(const Panel& panel, std::int64_t rows, const void* x, const void* weights, void* c) const;

  // Whether panels have to be expanded before they are multiplied; then to what size, and part `part` of `parts` of it.
  virtual bool expanded() const { return false; }
  std::size_t expanded_bytes(const Panel& panel) const { return panel.product->weight_bytes(); }
  virtual void expand(const Panel& panel, std::byte* to, std::int64_t part, std::int64_t parts) const;

  // Rows [k0, k1) of W^T (k0 a multiple of 8) in columns [n, n + strip_width) of a panel (less at its end): in place if
  // they are stored so, else in buffer [k1 - k0 rounded up to even][strip_width].
  virtual Strip strip(const Panel& panel, std::int64_t n, std::int64_t k0, std::int64_t k1, float* buffer) const;

  // sums [rows][strip_width] = x W^T in these columns, for a few rows x [rows, I] in fp32 (lanes beyond the panel are
  // undefined). Order of additions: serial over chunks of strip_depth input columns, then the chunks one by one.
  virtual void multiply_strip(const Panel& panel, std::int64_t n, const float* x, std::int64_t rows, float* sums) const;

 protected:
  PackedWeight(std::int64_t n, std::int64_t i, WeightFormat format, DType input);

  std::vector<Panel> panels_;

 private:
  std::int64_t n_, i_;
  WeightFormat format_;
  DType input_, operand_;
};

// f32, bf16 and f16.
class FloatWeight final : public PackedWeight {
 public:
  FloatWeight(const Tensor& w, WeightFormat format, int threads);

  std::size_t bytes() const override;
  bool expanded() const override { return input() != operand(); }
  void expand(const Panel& panel, std::byte* to, std::int64_t part, std::int64_t parts) const override;
  Strip strip(const Panel& panel, std::int64_t n, std::int64_t k0, std::int64_t k1, float* buffer) const override;

 private:
  void pack(Panel& panel, const Tensor& w) const;
};

// The backend's own weight behind a WeightPtr; exit 70 if it came from elsewhere.
const PackedWeight& packed(const Weight& w);

DType input_type(WeightFormat format);  // of f32, bf16, f16, s8

}  // namespace ptq

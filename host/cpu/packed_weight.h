// A weight laid out once for oneDNN: column panels of about 512 output rows, each in the blocked layout that the
// library's matmul primitive for 64 input rows wants. Every product of the CPU backend is a sequence of these
// (64 rows x panel) library calls, so a row's result depends neither on its place in the batch nor on threads.
//
// Where the CPU has no bf16 products, and always for f16, elements are kept as halves and a panel is expanded to
// fp32 before use: the products of two halves are exact in fp32, only speed differs.
#pragma once

#include "host/cpu/parallel.h"
#include "host/ops.h"

#include <oneapi/dnnl/dnnl.hpp>

#include <memory>
#include <string>
#include <vector>

namespace ptq {

// Rows of one library call. Large enough that the library runs at full speed, small enough that the last, padded
// tile of a batch costs little.
inline constexpr std::int64_t row_tile = 64;

bool has_bf16_products();       // AVX-512 BF16 or AMX
bool has_int8_products();       // VNNI or AMX: exact s8 x s8 -> s32. Older paths of the library saturate at 16 bits.
std::string cpu_description();  // "oneDNN 2.6.3, avx512_core_bf16"

// The library's [64, I] x [I, width] -> [64, width].
struct Product {
  dnnl::matmul run;
  dnnl::memory::desc x, weights, c, scratchpad;
};

struct Panel {
  std::int64_t begin = 0;                  // first output row
  std::int64_t width = 0;                  // output rows
  std::shared_ptr<const Product> product;  // shared by panels of one width; empty: int8 without VNNI
  std::int64_t elements = 0;               // in the blocked layout, with padding
  Buffer<std::byte> data;
};

class PackedWeight final : public Weight {
 public:
  PackedWeight(const Tensor& w, WeightFormat format, int threads);

  std::int64_t out_features() const override { return n_; }
  std::int64_t in_features() const override { return i_; }
  WeightFormat format() const override { return format_; }
  std::size_t bytes() const override;

  const std::vector<Panel>& panels() const { return panels_; }
  const float* scales() const { return scales_.data(); }  // s8: [N]
  DType operand() const { return operand_; }              // element type of the library's inputs
  bool expanded() const { return expanded_; }

  // Writes elements [begin, end) of a panel as fp32. Only if expanded().
  void expand(const Panel& panel, float* to, std::int64_t begin, std::int64_t end) const;

  // c [64, width] (f32, or s32 for s8) = x [64, I] W_panel^T. `weights`: the panel's data or its expansion.
  void multiply(const Panel& panel, const void* x, const void* weights, void* c) const;

 private:
  void pack(Panel& panel, const Tensor& w);
  void pack_rows(Panel& panel, const Tensor& w);  // plain [width, I] int8, for multiply without VNNI

  std::int64_t n_, i_;
  WeightFormat format_;
  DType operand_ = DType::f32;
  bool expanded_ = false;
  std::vector<Panel> panels_;
  Buffer<float> scales_;
};

// The backend's own weight behind a WeightPtr; exit 70 if it came from elsewhere.
const PackedWeight& packed(const Weight& w);

}  // namespace ptq

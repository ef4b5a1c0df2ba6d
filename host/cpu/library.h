// oneDNN behind three words: a product of one shape, where it wants the elements of its weight, and the reordering
// that puts them there. Library calls are single-threaded (parallel.h); failures are Errors.
#pragma once

#include "host/dtype.h"
#include "host/tensor.h"

#include <oneapi/dnnl/dnnl.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace ptq {

// Rows of one library call. Large enough that the library runs at full speed, small enough that the last, padded
// tile of a batch costs little. Integer sums are exact, so that rows may also come in smaller tiles (decoding).
inline constexpr std::int64_t row_tile = 64, few_row_tile = 8;

bool has_bf16_products();       // AVX-512 BF16 or AMX
bool has_int8_products();       // VNNI or AMX: exact s8 x s8 -> s32. Older paths of the library saturate at 16 bits.
std::string cpu_description();  // "oneDNN 2.6.3, avx512_core_bf16"

// Where the library keeps W^T [I, width]: element (k, n) lies at k_at[k] + n_at[n]. Both include the padding of the
// blocked layout, whose elements must be zeros.
struct Layout {
  std::vector<std::int64_t> k_at, n_at;

  // Whether `count` columns from n on lie `step` elements apart.
  bool columns_apart(std::int64_t n, std::int64_t count, std::int64_t step) const {
    return n_at[static_cast<std::size_t>(n + count - 1)] - n_at[static_cast<std::size_t>(n)] == (count - 1) * step;
  }
  // Whether these columns hold elements (k, n) and (k + 1, n), k even, side by side, as bf16 products want them.
  bool paired(std::int64_t n, std::int64_t count) const {
    return columns_apart(n, count, 2) && k_at.size() % 2 == 0 && k_at[1] == k_at[0] + 1;
  }
};

// The library's [rows, I] x [I, width] -> [rows, width]; operands f32, bf16 (sums f32) or i8 (sums s32).
class Product {
 public:
  // `same_weights`: the product of other rows whose layout of the weight this one shares; null: the library's choice.
  Product(std::int64_t rows, std::int64_t i, std::int64_t width, DType operand, const Product* same_weights = nullptr);

  // Bytes of the weight. The library may append compensation terms to the blocked layout.
  std::size_t weight_bytes() const { return weights_.get_size(); }
  const Layout& layout() const { return layout_; }

  // Lays out plain rows [width, I] of the operand type.
  void reorder(const void* rows, void* weights) const;

  void run(const void* x, const void* weights, void* c) const;

 private:
  dnnl::memory::desc x_, weights_, c_, scratchpad_, plain_;
  dnnl::matmul matmul_;
  Layout layout_;
};

}  // namespace ptq

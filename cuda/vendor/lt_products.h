// Products by cublasLt, with the fastest of the algorithms that it proposes for a shape: what own products are measured
// against.
#pragma once

#include "cuda/stream.h"
#include "cuda/vendor/library.h"
#include "cuda/vendor/scratch.h"
#include "host/dtype.h"

#include <cstdint>
#include <map>
#include <memory>
#include <type_traits>

namespace ptq::cuda {

// D [m,n] = A [m,k] B [k,n] + bias, as cublasLt counts: column after column, so that a matrix of rows is its transpose.
// Sums are fp32 (never TF32), or s32 of i8.
struct LtProduct {
  DType input = DType::f32;                         // of A and B: f32, bf16, f16, i8
  DType output = DType::f32;                        // of D: that of A, or f32; i32 for i8
  bool a_transposed = false, b_transposed = false;  // A lies as [k,m], B as [n,k]
  std::int64_t m = 0, n = 0, k = 0;
  const void* a = nullptr;
  const void* b = nullptr;
  void* d = nullptr;
  std::int64_t lda = 0, ldb = 0, ldd = 0;  // elements from column to column
  const float* bias = nullptr;             // [m], for f32 only
  bool add = false;                        // to what D holds
};

class LtProducts {
 public:
  ~LtProducts();

  // On the first call for a shape: takes up to 16 proposals of the heuristics with 64 MiB of work space, times each
  // with operands that are not in a cache, and keeps the fastest. Exit 69 if there are none.
  void run(const LtProduct& p, Stream stream);

 private:
  // All that an algorithm may depend on.
  struct Key {
    DType input, output;
    bool a_transposed, b_transposed, bias, add;
    std::int64_t m, n, k, lda, ldb, ldd;
    unsigned a_alignment, b_alignment, d_alignment;
    auto operator<=>(const Key&) const = default;
  };
  // A descriptor of the library.
  template <class T>
  using Owned = std::unique_ptr<std::remove_pointer_t<T>, cublasStatus_t (*)(T)>;
  struct Operation {
    Owned<cublasLtMatmulDesc_t> product;
    Owned<cublasLtMatrixLayout_t> a, b, d;
    cublasLtMatmulAlgo_t algorithm;
  };

  static Key key_of(const LtProduct& p);
  Owned<cublasLtMatrixLayout_t> layout(const LtProduct& p, DType type, std::int64_t rows, std::int64_t columns,
                                       std::int64_t ld) const;
  Operation prepare(const LtProduct& p) const;
  cublasLtMatmulAlgo_t fastest(const Operation& o, const LtProduct& p, Stream stream);
  cublasStatus_t multiply(const Operation& o, const cublasLtMatmulAlgo_t& algorithm, const LtProduct& p, void* d,
                          Stream stream);

  CublasLt lt_;
  cublasLtHandle_t handle_ = nullptr;  // made by the first run, when the device has been chosen
  Scratch workspace_;
  std::map<Key, Operation> known_;
};

}  // namespace ptq::cuda

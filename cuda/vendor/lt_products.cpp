#include "cuda/vendor/lt_products.h"

#include <array>
#include <limits>
#include <optional>

namespace ptq::cuda {

namespace {

constexpr std::size_t workspace_bytes = std::size_t{64} << 20;
constexpr int most_candidates = 16, repeats = 3;

std::string shapes_of(const LtProduct& p) {
  return fmt::format("{} to {}, m {} n {} k {}", name_of(p.input), name_of(p.output), p.m, p.n, p.k);
}

cudaDataType_t cuda_type(DType type) {
  switch (type) {
    case DType::f32:
      return CUDA_R_32F;
    case DType::bf16:
      return CUDA_R_16BF;
    case DType::f16:
      return CUDA_R_16F;
    case DType::i8:
      return CUDA_R_8I;
    case DType::i32:
      return CUDA_R_32I;
    default:
      fail(Exit::internal, "cublasLt: a product of {}", name_of(type));
  }
}

// The largest power of two, at most 256, that divides the address: what cublasLt asks for.
unsigned alignment_of(const void* p) {
  const auto address = reinterpret_cast<std::uintptr_t>(p) | 256u;
  return static_cast<unsigned>(address & ~(address - 1));
}

// Bytes to write so that nothing else is left in the second-level cache.
std::size_t eviction_bytes() {
  int device = 0, l2 = 0;
  cuda_check(cudaGetDevice(&device), "asking for the device");
  cuda_check(cudaDeviceGetAttribute(&l2, cudaDevAttrL2CacheSize, device), "asking for the size of the cache");
  return 3 * static_cast<std::size_t>(l2);
}

}  // namespace

LtProducts::~LtProducts() {
  known_.clear();
  if (handle_ != nullptr) lt_.cublasLtDestroy(handle_);
}

LtProducts::Key LtProducts::key_of(const LtProduct& p) {
  return {p.input, p.output, p.a_transposed,    p.b_transposed,    p.bias != nullptr, p.add, p.m, p.n, p.k, p.lda,
          p.ldb,   p.ldd,    alignment_of(p.a), alignment_of(p.b), alignment_of(p.d)};
}

LtProducts::Owned<cublasLtMatrixLayout_t> LtProducts::layout(const LtProduct& p, DType type, std::int64_t rows,
                                                             std::int64_t columns, std::int64_t ld) const {
  cublasLtMatrixLayout_t made = nullptr;
  lt_.check(lt_.cublasLtMatrixLayoutCreate(&made, cuda_type(type), static_cast<std::uint64_t>(rows),
                                           static_cast<std::uint64_t>(columns), ld),
            "cublasLtMatrixLayoutCreate", [&] { return shapes_of(p); });
  return {made, lt_.cublasLtMatrixLayoutDestroy};
}

LtProducts::Operation LtProducts::prepare(const LtProduct& p) const {
  const auto shapes = [&] { return shapes_of(p); };
  const bool integers = p.input == DType::i8;
  cublasLtMatmulDesc_t product = nullptr;
  lt_.check(lt_.cublasLtMatmulDescCreate(&product, integers ? CUBLAS_COMPUTE_32I : CUBLAS_COMPUTE_32F,
                                         integers ? CUDA_R_32I : CUDA_R_32F),
            "cublasLtMatmulDescCreate", shapes);
  Operation o{{product, lt_.cublasLtMatmulDescDestroy},
              p.a_transposed ? layout(p, p.input, p.k, p.m, p.lda) : layout(p, p.input, p.m, p.k, p.lda),
              p.b_transposed ? layout(p, p.input, p.n, p.k, p.ldb) : layout(p, p.input, p.k, p.n, p.ldb),
              layout(p, p.output, p.m, p.n, p.ldd),
              {}};
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute, const auto& value) {
    lt_.check(lt_.cublasLtMatmulDescSetAttribute(product, attribute, &value, sizeof value),
              "cublasLtMatmulDescSetAttribute", shapes);
  };
  set(CUBLASLT_MATMUL_DESC_TRANSA, p.a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(CUBLASLT_MATMUL_DESC_TRANSB, p.b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N);
  if (p.bias != nullptr) {
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
    set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias);
  }
  return o;
}

cublasStatus_t LtProducts::multiply(const Operation& o, const cublasLtMatmulAlgo_t& algorithm, const LtProduct& p,
                                    void* d, Stream stream) {
  const float one = 1.0f, keep = p.add ? 1.0f : 0.0f;
  const std::int32_t integer_one = 1, integer_keep = p.add ? 1 : 0;
  const bool integers = p.input == DType::i8;
  const void* alpha = integers ? static_cast<const void*>(&integer_one) : &one;
  const void* beta = integers ? static_cast<const void*>(&integer_keep) : &keep;
  return lt_.cublasLtMatmul(handle_, o.product.get(), alpha, p.a, o.a.get(), p.b, o.b.get(), beta, p.d, o.d.get(), d,
                            o.d.get(), &algorithm, workspace_.room<std::byte>(workspace_bytes), workspace_bytes,
                            stream);
}

cublasLtMatmulAlgo_t LtProducts::fastest(const Operation& o, const LtProduct& p, Stream stream) {
  const auto shapes = [&] { return shapes_of(p); };
  cublasLtMatmulPreference_t made = nullptr;
  lt_.check(lt_.cublasLtMatmulPreferenceCreate(&made), "cublasLtMatmulPreferenceCreate", shapes);
  const Owned<cublasLtMatmulPreference_t> preference{made, lt_.cublasLtMatmulPreferenceDestroy};
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    lt_.check(lt_.cublasLtMatmulPreferenceSetAttribute(made, attribute, &value, sizeof value),
              "cublasLtMatmulPreferenceSetAttribute", shapes);
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace_bytes);
  // Parts of k that are summed apart are added in fp32 or s32, like the parts themselves.
  set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, std::uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of(p.a));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of(p.b));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_of(p.d));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_of(p.d));
  std::array<cublasLtMatmulHeuristicResult_t, most_candidates> candidates{};
  int count = 0;
  lt_.check(lt_.cublasLtMatmulAlgoGetHeuristic(handle_, o.product.get(), o.a.get(), o.b.get(), o.d.get(), o.d.get(),
                                               made, most_candidates, candidates.data(), &count),
            "cublasLtMatmulAlgoGetHeuristic", shapes);

  Scratch evicted, other;  // sums that are added to must not change while algorithms are tried
  const std::size_t all = eviction_bytes();
  const auto columns = static_cast<std::size_t>(p.n), ld = static_cast<std::size_t>(p.ldd);
  void* d = p.add ? other.room<std::byte>(columns * ld * size_of(p.output)) : p.d;
  std::optional<cublasLtMatmulAlgo_t> best;
  double best_seconds = std::numeric_limits<double>::infinity();
  for (int i = 0; i < count; ++i) {
    const cublasLtMatmulHeuristicResult_t& c = candidates[static_cast<std::size_t>(i)];
    if (c.state != CUBLAS_STATUS_SUCCESS || multiply(o, c.algo, p, d, stream) != CUBLAS_STATUS_SUCCESS) continue;
    for (int r = 0; r < repeats; ++r) {
      cuda_check(cudaMemsetAsync(evicted.room<std::byte>(all), 0, all, stream), "clearing memory");
      const double seconds = seconds_on(stream, [&] { multiply(o, c.algo, p, d, stream); });
      if (seconds >= best_seconds) continue;
      best_seconds = seconds;
      best = c.algo;
    }
  }
  require(best.has_value(), Exit::device, "cublasLt has no algorithm for {}; use --gemm own", shapes_of(p));
  return *best;
}

void LtProducts::run(const LtProduct& p, Stream stream) {
  if (p.m == 0 || p.n == 0) return;
  const auto shapes = [&] { return shapes_of(p); };
  if (handle_ == nullptr) lt_.check(lt_.cublasLtCreate(&handle_), "cublasLtCreate", shapes);
  const Key key = key_of(p);
  auto known = known_.find(key);
  if (known == known_.end()) {
    Operation o = prepare(p);
    o.algorithm = fastest(o, p, stream);
    known = known_.emplace(key, std::move(o)).first;
  }
  const Operation& o = known->second;
  if (p.bias != nullptr) {
    lt_.check(
        lt_.cublasLtMatmulDescSetAttribute(o.product.get(), CUBLASLT_MATMUL_DESC_BIAS_POINTER, &p.bias, sizeof p.bias),
        "cublasLtMatmulDescSetAttribute", shapes);
  }
  lt_.check(multiply(o, o.algorithm, p, p.d, stream), "cublasLtMatmul", shapes);
}

}  // namespace ptq::cuda

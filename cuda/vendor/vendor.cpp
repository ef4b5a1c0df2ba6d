#include "cuda/vendor/vendor.h"

#include "cuda/vendor/finish.h"
#include "cuda/vendor/lt_products.h"

#include <algorithm>

namespace ptq::cuda {

namespace {

// y [T,N] of y_type = x W^T + bias, rows of all three one after the other.
struct RowProduct {
  void* y;
  DType y_type, type;
  const void *x, *w;
  std::int64_t ldx, ldw, rows, columns, depth;  // T, N, I
  const float* bias;
};

class Vendor {
 public:
  ~Vendor() {
    if (blas_handle_ != nullptr) blas_.cublasDestroy_v2(blas_handle_);
    if (solver_handle_ != nullptr) solver_.cusolverDnDestroy(solver_handle_);
  }

  void linear(const RowProduct& p, Stream stream) {
    const bool apart = p.bias != nullptr && p.type != DType::f32;  // see vendor.h
    LtProduct product{.input = p.type, .output = apart ? DType::f32 : p.y_type, .a_transposed = true};
    product.m = p.columns;
    product.n = p.rows;
    product.k = p.depth;
    product.a = p.w;
    product.lda = p.ldw;
    product.b = p.x;
    product.ldb = p.ldx;
    float* sums = apart ? sums_.room<float>(static_cast<std::size_t>(p.rows * p.columns)) : nullptr;
    product.d = apart ? sums : p.y;
    product.ldd = p.columns;
    product.bias = apart ? nullptr : p.bias;
    lt_.run(product, stream);
    if (apart) finish_biased(p.y, p.y_type, sums, p.bias, p.rows, p.columns, stream);
  }

  void linear_s8(const GemmS8& g, Stream stream) {
    if (g.n % 4 != 0) return cuda::gemm_s8(g, stream);
    auto* sums = sums_.room<std::int32_t>(static_cast<std::size_t>(g.rows * g.n));
    LtProduct product{.input = DType::i8, .output = DType::i32, .a_transposed = true};
    product.m = g.n;
    product.n = g.rows;
    product.k = product.lda = product.ldb = g.stride;
    product.a = g.w;
    product.b = g.x;
    product.d = sums;
    product.ldd = g.n;
    lt_.run(product, stream);
    finish_s8(g, sums, stream);
  }

  void gram(float* h, const void* x, DType type, std::int64_t tokens, std::int64_t n, Stream stream) {
    if (tokens == 0) return;
    if (type == DType::f32) return syrk(h, static_cast<const float*>(x), tokens, n, stream);
    LtProduct product{.input = type, .output = DType::f32, .b_transposed = true};
    product.m = product.n = product.lda = product.ldb = product.ldd = n;
    product.k = tokens;
    product.a = product.b = x;
    product.d = h;
    product.add = true;
    lt_.run(product, stream);
  }

  // A row-major upper triangle is a column-major lower one. H = L L^T, H^-1 from L, H^-1 = M M^T with M lower: the
  // rows of U = M^T.
  void factor(float* h, std::int32_t* failed, std::int64_t n, Stream stream) {
    constexpr cublasFillMode_t lower = CUBLAS_FILL_MODE_LOWER;
    const auto shapes = [&] { return fmt::format("f32, n {}", n); };
    const int size = static_cast<int>(n);
    if (solver_handle_ == nullptr) solver_.check(solver_.cusolverDnCreate(&solver_handle_), "cusolverDnCreate", shapes);
    cusolverDnHandle_t handle = solver_handle_;
    solver_.check(solver_.cusolverDnSetStream(handle, stream), "cusolverDnSetStream", shapes);
    int factor_room = 0, invert_room = 0;
    solver_.check(solver_.cusolverDnSpotrf_bufferSize(handle, lower, size, h, size, &factor_room),
                  "cusolverDnSpotrf_bufferSize", shapes);
    solver_.check(solver_.cusolverDnSpotri_bufferSize(handle, lower, size, h, size, &invert_room),
                  "cusolverDnSpotri_bufferSize", shapes);
    const int room = std::max(factor_room, invert_room);
    auto* work = work_.room<float>(static_cast<std::size_t>(room));
    auto* infos = infos_.room<std::int32_t>(3);
    solver_.check(solver_.cusolverDnSpotrf(handle, lower, size, h, size, work, room, infos), "cusolverDnSpotrf",
                  shapes);
    solver_.check(solver_.cusolverDnSpotri(handle, lower, size, h, size, work, room, infos + 1), "cusolverDnSpotri",
                  shapes);
    solver_.check(solver_.cusolverDnSpotrf(handle, lower, size, h, size, work, room, infos + 2), "cusolverDnSpotrf",
                  shapes);
    finish_factor(h, failed, infos, 3, n, stream);
  }

 private:
  void syrk(float* h, const float* x, std::int64_t tokens, std::int64_t n, Stream stream) {
    const auto shapes = [&] { return fmt::format("f32, n {} k {}", n, tokens); };
    if (blas_handle_ == nullptr) blas_.check(blas_.cublasCreate_v2(&blas_handle_), "cublasCreate", shapes);
    blas_.check(blas_.cublasSetStream_v2(blas_handle_, stream), "cublasSetStream", shapes);
    const float one = 1.0f;
    const int size = static_cast<int>(n);
    blas_.check(blas_.cublasSsyrk_v2(blas_handle_, CUBLAS_FILL_MODE_LOWER, CUBLAS_OP_N, size, static_cast<int>(tokens),
                                     &one, x, size, &one, h, size),
                "cublasSsyrk", shapes);
  }

  LtProducts lt_;
  Cublas blas_;
  Cusolver solver_;
  cublasHandle_t blas_handle_ = nullptr;  // these too are made when the device has been chosen
  cusolverDnHandle_t solver_handle_ = nullptr;
  Scratch sums_, work_, infos_;
};

}  // namespace

void install_vendor(Launchers& launchers) {
  const auto vendor = std::make_shared<Vendor>();
  launchers.gemm = [vendor](void* y, const GemmShape& g, const float* bias, Stream stream) {
    vendor->linear({y, g.type, g.type, g.x, g.w, g.ldx, g.ldw, g.rows, g.columns, g.depth, bias}, stream);
  };
  launchers.gemv_float = [vendor](const FewRows& p, const void* w, std::int64_t ld, Stream stream) {
    vendor->linear({p.y, p.y_type, p.type, p.x, w, p.ldx, ld, p.rows, p.n, p.i, p.b}, stream);
  };
  launchers.gemm_s8 = [vendor](const GemmS8& g, Stream stream) { vendor->linear_s8(g, stream); };
  launchers.gram = [vendor](float* h, const void* x, DType type, std::int64_t tokens, std::int64_t n, Stream stream) {
    vendor->gram(h, x, type, tokens, n, stream);
  };
  launchers.factor_inverse = [vendor](float* h, float*, float*, std::int32_t* failed, std::int64_t n, Stream stream) {
    vendor->factor(h, failed, n, stream);
  };
}

}  // namespace ptq::cuda

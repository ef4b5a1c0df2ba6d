#include "cuda/vendor/library.h"

#include <dlfcn.h>

namespace ptq::cuda {

namespace {

// Of a status: what the caller of ptq can do about it.
Exit exit_of(bool memory, bool device) { return memory ? Exit::again : device ? Exit::device : Exit::internal; }

}  // namespace

Library::Library(const std::string& name, int version) : file_(fmt::format("lib{}.so.{}", name, version)) {
  constexpr int how = RTLD_NOW | RTLD_LOCAL;
  handle_ = dlopen(file_.c_str(), how);
  if (handle_ == nullptr) handle_ = dlopen(fmt::format("{}/{}", PTQ_CUDA_LIBRARIES, file_).c_str(), how);
  if (handle_ != nullptr) return;
  const char* reason = dlerror();
  fail(Exit::device, "{} cannot be loaded ({}); install the CUDA toolkit's libraries, or use --gemm own", file_,
       reason == nullptr ? "no reason given" : reason);
}

void* Library::symbol(const char* name) const {
  void* found = dlsym(handle_, name);
  require(found != nullptr, Exit::device, "{} has no function {}; use --gemm own", file_, name);
  return found;
}

void blas_failed(cublasStatus_t status, const char* status_name, const char* call, const std::string& shapes) {
  const bool memory = status == CUBLAS_STATUS_ALLOC_FAILED || status == CUBLAS_STATUS_NOT_INITIALIZED;
  fail(exit_of(memory, status == CUBLAS_STATUS_ARCH_MISMATCH || status == CUBLAS_STATUS_NOT_SUPPORTED),
       "cuBLAS: {}, {}: {}; use --gemm own", call, shapes, status_name);
}

void solver_failed(cusolverStatus_t status, const char* call, const std::string& shapes) {
  const bool memory = status == CUSOLVER_STATUS_ALLOC_FAILED || status == CUSOLVER_STATUS_NOT_INITIALIZED;
  fail(exit_of(memory, status == CUSOLVER_STATUS_ARCH_MISMATCH),
       "cuSOLVER: {}, {}: status {} of cusolverStatus_t; "
       "use --gemm own",
       call, shapes, static_cast<int>(status));
}

}  // namespace ptq::cuda

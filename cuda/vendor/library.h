// NVIDIA's libraries, opened when they are asked for (--gemm cublas). Linked, they would take a tenth of a second and
// 240 MB of address space of every start of ptq, and ptq would not start where they are missing.
#pragma once

#include "host/error.h"

#include <cublasLt.h>
#include <cublas_v2.h>
#include <cusolverDn.h>

#include <string>

namespace ptq::cuda {

class Library {
 public:
  // The library of this name and major version, where the system looks or in the CUDA toolkit of the build. Stays open
  // until the program ends. Exit 69 with the reason if it is not there.
  Library(const std::string& name, int version);

  template <class F>
  F function(const char* name) const {
    return reinterpret_cast<F>(symbol(name));
  }

 private:
  void* symbol(const char* name) const;

  std::string file_;
  void* handle_;
};

// A call failed: one line with the call, its shapes and the status. Exit 75 for memory, 69 for a GPU that the library
// does not know, else 70.
[[noreturn]] void blas_failed(cublasStatus_t status, const char* status_name, const char* call,
                              const std::string& shapes);
[[noreturn]] void solver_failed(cusolverStatus_t status, const char* call, const std::string& shapes);

// The functions that are used, under the libraries' own names. check(): `shapes` is a function, called on failure.
#define PTQ_FUNCTION(name) decltype(&::name) name = library.function<decltype(&::name)>(#name)

struct CublasLt {
  Library library{"cublasLt", CUBLAS_VER_MAJOR};
  PTQ_FUNCTION(cublasLtCreate);
  PTQ_FUNCTION(cublasLtDestroy);
  PTQ_FUNCTION(cublasLtGetStatusName);
  PTQ_FUNCTION(cublasLtMatmul);
  PTQ_FUNCTION(cublasLtMatmulAlgoGetHeuristic);
  PTQ_FUNCTION(cublasLtMatmulDescCreate);
  PTQ_FUNCTION(cublasLtMatmulDescDestroy);
  PTQ_FUNCTION(cublasLtMatmulDescSetAttribute);
  PTQ_FUNCTION(cublasLtMatmulPreferenceCreate);
  PTQ_FUNCTION(cublasLtMatmulPreferenceDestroy);
  PTQ_FUNCTION(cublasLtMatmulPreferenceSetAttribute);
  PTQ_FUNCTION(cublasLtMatrixLayoutCreate);
  PTQ_FUNCTION(cublasLtMatrixLayoutDestroy);

  template <class Shapes>
  void check(cublasStatus_t status, const char* call, const Shapes& shapes) const {
    if (status != CUBLAS_STATUS_SUCCESS) blas_failed(status, cublasLtGetStatusName(status), call, shapes());
  }
};

struct Cublas {
  Library library{"cublas", CUBLAS_VER_MAJOR};
  PTQ_FUNCTION(cublasCreate_v2);
  PTQ_FUNCTION(cublasDestroy_v2);
  PTQ_FUNCTION(cublasGetStatusName);
  PTQ_FUNCTION(cublasSetStream_v2);
  PTQ_FUNCTION(cublasSsyrk_v2);

  template <class Shapes>
  void check(cublasStatus_t status, const char* call, const Shapes& shapes) const {
    if (status != CUBLAS_STATUS_SUCCESS) blas_failed(status, cublasGetStatusName(status), call, shapes());
  }
};

struct Cusolver {
  Library library{"cusolver", CUSOLVER_VER_MAJOR};
  PTQ_FUNCTION(cusolverDnCreate);
  PTQ_FUNCTION(cusolverDnDestroy);
  PTQ_FUNCTION(cusolverDnSetStream);
  PTQ_FUNCTION(cusolverDnSpotrf);
  PTQ_FUNCTION(cusolverDnSpotrf_bufferSize);
  PTQ_FUNCTION(cusolverDnSpotri);
  PTQ_FUNCTION(cusolverDnSpotri_bufferSize);

  template <class Shapes>
  void check(cusolverStatus_t status, const char* call, const Shapes& shapes) const {
    if (status != CUSOLVER_STATUS_SUCCESS) solver_failed(status, call, shapes());
  }
};

#undef PTQ_FUNCTION

}  // namespace ptq::cuda

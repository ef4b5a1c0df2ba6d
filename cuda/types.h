// From DType to a type of the language: the one switch by which launchers pick a template.
#pragma once

#include "host/dtype.h"

#include <cstdint>

namespace ptq::cuda {

void unexpected_dtype(DType dtype);  // backend/runtime.cpp: throws Error (exit 70)

// f(T{}) for T = float, bf16 or f16.
template <class F>
void visit_float(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32:
      return f(float{});
    case DType::bf16:
      return f(bf16{});
    case DType::f16:
      return f(f16{});
    default:
      unexpected_dtype(dtype);
  }
}

// f(T{}) for T = bf16 or f16.
template <class F>
void visit_half(DType dtype, F&& f) {
  if (dtype == DType::bf16) return f(bf16{});
  if (dtype == DType::f16) return f(f16{});
  unexpected_dtype(dtype);
}

}  // namespace ptq::cuda

// Everything of the forward pass that is not a product: memory-bound row loops. A row is widened to fp32, worked on,
// and rounded once.
#include "host/cpu/cpu_ops.h"
#include "host/cpu/parallel.h"
#include "host/cpu/simd.h"
#include "host/op_checks.h"

#include <atomic>
#include <cmath>

namespace ptq {

namespace {

constexpr std::int64_t grain_elements = 16384;  // work below this is not worth another thread

std::int64_t grain(std::int64_t row_width) {
  return std::max<std::int64_t>(1, grain_elements / std::max<std::int64_t>(1, row_width));
}

void check_index(const char* op, std::int32_t i, std::int64_t limit) {
  check(0 <= i && i < limit, "{}: row {} of {}", op, i, limit);
}

// Sum over i of f(x[i]) in `lanes` running sums.
template <class F>
float lane_sum(const float* x, std::int64_t n, F&& f) {
  simd::vfloat sums{};
  std::int64_t i = 0;
  for (; i + simd::lanes <= n; i += simd::lanes) sums += f(simd::load(x + i));
  float rest[simd::lanes] = {};
  for (std::int64_t j = i; j < n; ++j) rest[j - i] = x[j];
  const simd::vfloat tail = f(simd::load(rest));
  for (std::int64_t j = i; j < n; ++j) sums[j - i] += tail[j - i];
  float sum = 0.0f;
  for (int l = 0; l < simd::lanes; ++l) sum += sums[l];
  return sum;
}

template <class T>
void norm_row(float* x, std::int64_t n, const float* w, const float* b, const NormSpec& spec) {
  const auto width = static_cast<float>(n);
  if (spec.kind == NormKind::layer) {
    const float mean = lane_sum(x, n, [](simd::vfloat v) { return v; }) / width;
    for (std::int64_t i = 0; i < n; ++i) x[i] -= mean;
  }
  const float square = lane_sum(x, n, [](simd::vfloat v) { return v * v; }) / width;
  const float scale = 1.0f / std::sqrt(square + spec.epsilon);
  for (std::int64_t i = 0; i < n; ++i) x[i] *= scale;
  if (spec.round_before_weight && !std::is_same_v<T, float>) {
    for (std::int64_t i = 0; i < n; ++i) x[i] = to_float(from_float<T>(x[i]));
  }
  const float one = spec.one_plus_weight ? 1.0f : 0.0f;
  for (std::int64_t i = 0; i < n; ++i) x[i] *= one + w[i];
  if (b != nullptr) {
    for (std::int64_t i = 0; i < n; ++i) x[i] += b[i];
  }
}

// x [C] of one head, c and s [P].
void rotate(float* x, const float* c, const float* s, std::int64_t pairs, RopeStyle style) {
  if (style == RopeStyle::half_split) {
    for (std::int64_t i = 0; i < pairs; ++i) {
      const float a = x[i], b = x[i + pairs];
      x[i] = a * c[i] - b * s[i];
      x[i + pairs] = b * c[i] + a * s[i];
    }
  } else {
    for (std::int64_t i = 0; i < pairs; ++i) {
      const float a = x[2 * i], b = x[2 * i + 1];
      x[2 * i] = a * c[i] - b * s[i];
      x[2 * i + 1] = b * c[i] + a * s[i];
    }
  }
}

simd::vfloat apply(Activation act, simd::vfloat x) {
  using namespace simd;
  switch (act) {
    case Activation::relu:
      return x < splat(0.0f) ? splat(0.0f) : x;  // NaN stays NaN
    case Activation::silu:
      return x / (splat(1.0f) + exp(-x));
    case Activation::gelu_tanh: {
      const vfloat inner = splat(0.7978845608028654f) * (x + splat(0.044715f) * x * x * x);  // sqrt(2 / pi)
      return splat(0.5f) * x * (splat(1.0f) + tanh(inner));
    }
    case Activation::gelu_erf: {
      vfloat y{};
      for (int l = 0; l < lanes; ++l) y[l] = 0.5f * x[l] * (1.0f + std::erf(x[l] * 0.70710678118654752f));
      return y;
    }
  }
  return x;
}

void activate_row(float* x, std::int64_t n, Activation act) {
  std::int64_t i = 0;
  for (; i + simd::lanes <= n; i += simd::lanes) simd::store(x + i, apply(act, simd::load(x + i)));
  if (i == n) return;
  float rest[simd::lanes] = {};
  std::copy(x + i, x + n, rest);
  simd::store(rest, apply(act, simd::load(rest)));
  std::copy(rest, rest + (n - i), x + i);
}

}  // namespace

void CpuOps::embed(const Tensor& y, const Tensor& ids, const Tensor& table, float scale) {
  op_checks::embed(y, ids, table);
  const std::int64_t d = y.cols();
  const auto* id = ids.data<std::int32_t>();
  simd::dispatch(y.dtype(), [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    parallel_ranges(threads_, y.rows(), grain(d), [&](std::int64_t begin, std::int64_t end) {
      float* row = scratch<float>(0, static_cast<std::size_t>(d));
      for (std::int64_t t = begin; t < end; ++t) {
        check_index("embed", id[t], table.rows());
        simd::to_floats(table.data<T>() + id[t] * d, row, d);
        for (std::int64_t i = 0; i < d; ++i) row[i] *= scale;
        simd::from_floats(row, y.data<T>() + t * d, d);
      }
    });
  });
}

void CpuOps::add_rows(const Tensor& x, const Tensor& index, const Tensor& table) {
  op_checks::add_rows(x, index, table);
  const std::int64_t d = x.cols();
  const auto* at = index.data<std::int32_t>();
  simd::dispatch(x.dtype(), [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    parallel_ranges(threads_, x.rows(), grain(d), [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t t = begin; t < end; ++t) {
        check_index("add_rows", at[t], table.rows());
        const T* from = table.data<T>() + at[t] * d;
        T* to = x.data<T>() + t * d;
        for (std::int64_t i = 0; i < d; ++i) to[i] = from_float<T>(to_float(to[i]) + to_float(from[i]));
      }
    });
  });
}

void CpuOps::norm(const Tensor& y, const Tensor& x, const Tensor& w, const Tensor& b, const NormSpec& spec) {
  op_checks::norm(y, x, w, b);
  const std::int64_t d = x.cols(), gains = w.rows();
  const Tensor gain = w.to(DType::f32), offset = b ? b.to(DType::f32) : Tensor();
  simd::dispatch(x.dtype(), [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    parallel_ranges(threads_, x.rows(), grain(d), [&](std::int64_t begin, std::int64_t end) {
      float* row = scratch<float>(0, static_cast<std::size_t>(d));
      for (std::int64_t r = begin; r < end; ++r) {
        const std::int64_t q = (r % gains) * d;
        simd::to_floats(x.data<T>() + r * d, row, d);
        norm_row<T>(row, d, gain.data<float>() + q, offset ? offset.data<float>() + q : nullptr, spec);
        simd::from_floats(row, y.data<T>() + r * d, d);
      }
    });
  });
}

void CpuOps::rope(const Tensor& x, const Tensor& cos, const Tensor& sin, int heads, RopeStyle style) {
  const std::int64_t pairs = cos.cols();
  op_checks::rope(x, cos, sin, heads);
  const std::int64_t width = x.cols(), c = width / heads;
  simd::dispatch(x.dtype(), [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    parallel_ranges(threads_, x.rows(), grain(width), [&](std::int64_t begin, std::int64_t end) {
      float* row = scratch<float>(0, static_cast<std::size_t>(width));
      for (std::int64_t t = begin; t < end; ++t) {
        simd::to_floats(x.data<T>() + t * width, row, width);
        for (int h = 0; h < heads; ++h) {
          rotate(row + h * c, cos.data<float>() + t * pairs, sin.data<float>() + t * pairs, pairs, style);
        }
        simd::from_floats(row, x.data<T>() + t * width, width);
      }
    });
  });
}

void CpuOps::activate(const Tensor& y, const Tensor& gate, const Tensor& up, Activation act) {
  op_checks::activate(y, gate, up);
  simd::dispatch(y.dtype(), [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    constexpr std::int64_t piece = 2048;  // stays in the first-level cache
    parallel_ranges(threads_, y.numel(), grain_elements, [&](std::int64_t begin, std::int64_t end) {
      float a[piece], b[piece];
      for (std::int64_t i = begin; i < end; i += piece) {
        const std::int64_t n = std::min(piece, end - i);
        simd::to_floats(gate.data<T>() + i, a, n);
        activate_row(a, n, act);
        if (up) {
          simd::to_floats(up.data<T>() + i, b, n);
          for (std::int64_t j = 0; j < n; ++j) a[j] *= b[j];
        }
        simd::from_floats(a, y.data<T>() + i, n);
      }
    });
  });
}

void CpuOps::add(const Tensor& x, const Tensor& y) {
  op_checks::add(x, y);
  simd::dispatch(x.dtype(), [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    T* to = x.data<T>();
    const T* from = y.data<T>();
    parallel_ranges(threads_, x.numel(), grain_elements, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end; ++i) to[i] = from_float<T>(to_float(to[i]) + to_float(from[i]));
    });
  });
}

void CpuOps::gather_rows(const Tensor& y, const Tensor& x, const Tensor& rows) {
  op_checks::gather_rows(y, x, rows);
  const auto* at = rows.data<std::int32_t>();
  const std::size_t bytes = static_cast<std::size_t>(x.cols()) * size_of(x.dtype());
  for (std::int64_t r = 0; r < y.rows(); ++r) {
    check_index("gather_rows", at[r], x.rows());
    std::memcpy(static_cast<std::byte*>(y.raw()) + static_cast<std::size_t>(r) * bytes,
                static_cast<const std::byte*>(x.raw()) + static_cast<std::size_t>(at[r]) * bytes, bytes);
  }
}

std::int64_t CpuOps::count_nonfinite(const Tensor& x) {
  std::atomic<std::int64_t> count{0};
  simd::dispatch(x.dtype(), [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const T* in = x.data<T>();
    parallel_ranges(threads_, x.numel(), grain_elements, [&](std::int64_t begin, std::int64_t end) {
      std::int64_t here = 0;
      for (std::int64_t i = begin; i < end; ++i) here += std::isfinite(to_float(in[i])) ? 0 : 1;
      count += here;
    });
  });
  return count;
}

}  // namespace ptq

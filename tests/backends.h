// The backends that this build can test, and what every kernel test needs: a parameterised fixture, random data of
// several kinds, and outputs between guard bytes. A new backend joins by one line in backends().
#pragma once

#include "host/ops.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace ptq::testing {

struct Backend {
  std::string name;
  std::function<std::unique_ptr<Ops>()> make;
};

inline void PrintTo(const Backend& b, std::ostream* out) { *out << b.name; }

inline std::vector<Backend> backends() {
  const char* step = std::getenv("PTQ_TEST_STEP");  // a rung of the teaching ladder instead of a kernel
  const GpuOptions gpu{.step = step == nullptr ? "" : step};
  std::vector<Backend> list{{"cpu", [] { return make_cpu_ops(2); }}, {"simt", [gpu] { return make_simt_ops(2, gpu); }}};
#ifdef PTQ_WITH_CUDA
  if (!cuda_devices().empty()) list.push_back({"cuda", [gpu] { return make_cuda_ops(gpu); }});
#endif
  return list;
}

// Sizes at which tiled kernels break: around tiles of 16, 64 and 512, primes, and one.
inline const std::vector<std::int64_t> awkward{1, 7, 16, 37, 63, 64, 65, 129};

enum class Data { normal, positive, small_integers };

inline Tensor random(DType dtype, Shape shape, unsigned seed, Data kind = Data::normal) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::uniform_int_distribution<int> integer(-3, 3);
  Tensor t = Tensor::empty(DType::f32, std::move(shape));
  for (float& x : t.span<float>()) {
    x = kind == Data::small_integers ? static_cast<float>(integer(generator)) : normal(generator);
    if (kind == Data::positive) x = std::fabs(x) + 0.1f;
  }
  return t.to(dtype);
}

inline Tensor indices(const std::vector<std::int32_t>& values) {
  return Tensor::of(values, {static_cast<std::int64_t>(values.size())});
}

// An output in the middle of a larger allocation whose borders must survive. `initial` gives its contents, if any.
class Guarded {
 public:
  Guarded(Ops& ops, DType dtype, const Shape& shape, const Tensor& initial = {}) : ops_(ops) {
    const std::int64_t n = numel(shape);
    Tensor host = Tensor::empty(dtype, {n + 2 * border});
    std::memset(host.raw(), pattern, host.bytes());
    if (initial) std::memcpy(host.slice_rows(border, border + n).raw(), initial.raw(), initial.bytes());
    all_ = ops.to_device(host);
    inside_ = all_.slice_rows(border, border + n).reshape(shape);
  }

  const Tensor& tensor() const { return inside_; }

  // The output on the host; fails the test if a border was written.
  Tensor read() const {
    const Tensor host = ops_.to_host(all_);
    const std::int64_t n = inside_.numel();
    for (const Tensor& side : {host.slice_rows(0, border), host.slice_rows(border + n, n + 2 * border)}) {
      for (std::size_t i = 0; i < side.bytes(); ++i) {
        if (static_cast<const unsigned char*>(side.raw())[i] != pattern) {
          ADD_FAILURE() << "written outside of the output, guard byte " << i;
          break;
        }
      }
    }
    return host.slice_rows(border, border + n).reshape(inside_.shape());
  }

 private:
  static constexpr std::int64_t border = 64;
  static constexpr unsigned char pattern = 0xa5;
  Ops& ops_;
  Tensor all_, inside_;
};

class OpsTest : public ::testing::TestWithParam<Backend> {
 protected:
  void SetUp() override { ops = GetParam().make(); }
  Tensor device(const Tensor& t) { return ops->to_device(t); }
  std::unique_ptr<Ops> ops;
};

#define PTQ_ON_ALL_BACKENDS(suite)                                           \
  INSTANTIATE_TEST_SUITE_P(Backends, suite, ::testing::ValuesIn(backends()), \
                           [](const ::testing::TestParamInfo<Backend>& i) { return i.param.name; })

}  // namespace ptq::testing

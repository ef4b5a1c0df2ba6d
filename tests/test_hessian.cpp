// The Hessian's normalisation and what happens when it cannot be factored.
#include "quant/gptq.h"
#include "quant/rtn.h"
#include "tests/quant_inputs.h"

#include <gtest/gtest.h>

#include <cmath>

namespace ptq {
namespace {

TEST(Hessian, NormalisationMattersOnlyWithDeadColumns) {
  QuantSpec spec = gptq_spec(4, -1, false);
  const Tensor w = gaussian(8, 32, 61), x = correlated(128, 32, 62);
  const auto quantized = [&](HessianNorm norm, bool with_dead) {
    Tensor inputs = x.clone();
    for (std::int64_t t = 0; with_dead && t < 128; ++t) inputs.data<float>()[t * 32 + 5] = 0.0f;
    spec.hessian_norm = norm;
    Hessian h(ops(), 32);
    for (int i = 0; i < 4; ++i) h.add(ops().to_device(inputs.slice_rows(32 * i, 32 * (i + 1))), 1);
    EXPECT_EQ(h.sequences(), 4);
    EXPECT_EQ(h.tokens(), 128);
    return factor_hessian(ops(), h, spec, "test");
  };
  const HessianFactor sequence = quantized(HessianNorm::per_sequence, false);
  const HessianFactor token = quantized(HessianNorm::per_token, false);
  EXPECT_NEAR(sequence.damp_added, 32 * token.damp_added, 1e-5 * sequence.damp_added);
  const Tensor a = quantize_gptq(ops(), w, sequence, spec).q, b = quantize_gptq(ops(), w, token, spec).q;
  for (std::int64_t i = 0; i < a.numel(); ++i) ASSERT_NEAR(a.data<float>()[i], b.data<float>()[i], 1e-5f);
  // The dead column's diagonal of 1 does not scale with the rest.
  EXPECT_LT(quantized(HessianNorm::per_sequence, true).damp_added,
            32 * quantized(HessianNorm::per_token, true).damp_added * 0.999);
}

TEST(Hessian, SingularPolicies) {
  QuantSpec spec = gptq_spec(4, -1, true);
  const std::vector<float> indefinite{1.0f, 1.3f, 1.3f, 1.0f};  // eigenvalues -0.3 and 2.3: damping 0.5 helps
  EXPECT_EQ(exit_of([&] { factor_of_matrix(indefinite, spec); }), Exit::numerics);
  spec.on_singular = SingularPolicy::damp;
  const HessianFactor damped = factor_of_matrix(indefinite, spec);
  EXPECT_EQ(damped.damp, 0.5);
  EXPECT_EQ(damped.retries, 10);  // two precisions at 0.01, 0.02, 0.05, 0.1, 0.2
  EXPECT_EQ(exit_of([&] { factor_of_matrix({1.0f, 5.0f, 5.0f, 1.0f}, spec); }), Exit::numerics);
  spec.on_singular = SingularPolicy::rtn;
  const HessianFactor none = factor_of_matrix(indefinite, spec);
  EXPECT_FALSE(none.u);
  EXPECT_EQ(none.retries, 1);
  const Tensor w = gaussian(3, 2, 71);
  const QuantizedMatrix m = quantize_gptq(ops(), w, none, spec), r = quantize_rtn(ops(), w, spec);
  for (std::int64_t i = 0; i < 6; ++i) EXPECT_EQ(m.q.data<float>()[i], r.q.data<float>()[i]);
  EXPECT_EQ(exit_of([&] { factor_of_matrix({1.0f, 0.0f, 0.0f, INFINITY}, spec); }), Exit::numerics);
}

// Between "fp32 is enough" and "not positive definite" lies damping that only fp64 can factor, and it is recorded.
TEST(Hessian, RetriesInDoublePrecision) {
  const std::int64_t k = 96;
  const Tensor x = gaussian(8, k, 81);  // rank 8
  QuantSpec spec = gptq_spec(4, -1, false);
  bool plain = false, retried = false;
  for (double damp = 1e-2; damp > 1e-9; damp *= 0.7) {
    spec.damp = damp;
    spec.on_singular = SingularPolicy::rtn;
    const HessianFactor f = factor_of(x, spec);
    if (f.u && !f.in_fp64) plain = true;
    if (f.u && f.in_fp64) {
      retried = true;
      EXPECT_EQ(f.retries, 1);
      EXPECT_EQ(ops().count_nonfinite(f.u), 0);
    }
  }
  EXPECT_TRUE(plain);
  EXPECT_TRUE(retried);
}

}  // namespace
}  // namespace ptq

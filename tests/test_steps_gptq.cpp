// The GPTQ sweep against error bounds, for kernels that add in an order of their own (docs/ladder-gptq.md, step 3) and
// so cannot have the CPU's bits: the product behind a block is as accurate as one of fp32, and every code that the
// bounds prove is right.
#include "quant_reference.h"

#include <random>

namespace ptq::testing {
namespace {

using GptqStep = OpsTest;
PTQ_ON_ALL_BACKENDS(GptqStep);

constexpr float zero_point = 8.0f;  // of 4 bits

// The sweep with given scales (N, G) and zero point 8.
SweepResult sweep(Ops& ops, const Tensor& w, const Tensor& u, int block, const Tensor& scales, const Tensor& g_idx) {
  Tensor zeros = scales.clone();
  for (float& z : zeros.span<float>()) z = zero_point;
  const Tensor q = ops.to_device(w.clone()), codes = ops.empty(DType::u8, w.shape());
  const Tensor error = ops.empty(DType::f64, {w.rows()}), s = ops.to_device(scales), z = ops.to_device(zeros);
  ops.gptq_sweep(q, {codes, s, z}, error, ops.to_device(u), {{4, false, false}, -1, block}, true, ops.to_device(g_idx));
  return {ops.to_host(q), ops.to_host(codes), scales, zeros, ops.to_host(error)};
}

// What reference.h allows a sum of n products, whose magnitudes are S: each one's share of it.
double sum_unit(double n) { return 2.0 * (std::sqrt(n) + 2.0) * unit; }

// The block's grid is so wide that every weight is rounded to 0 and is its own error; U is the identity but behind the
// block. There the weights are what the product subtracts, so that only its error remains, and the grid of each is as
// wide as that may be: any code but the zero point tells of a larger error. With one error a row, every bit of both
// operands matters.
TEST_P(GptqStep, ProductBehindABlockHasTheAccuracyOfFp32) {
  const std::int64_t rows = 70, rest = 133;
  for (const int block : {16, 128, 200}) {
    const std::int64_t columns = block + rest;
    Tensor u = random(DType::f32, {columns, columns}, 31), g_idx = Tensor::zeros(DType::i32, {columns});
    for (std::int64_t i = 0; i < columns * columns; ++i) {
      const std::int64_t row = i / columns, column = i % columns;
      if (row >= block || column < block) u.data<float>()[i] = row == column ? 1.0f : 0.0f;
    }
    for (std::int64_t k = 0; k < rest; ++k) g_idx.data<std::int32_t>()[block + k] = static_cast<std::int32_t>(1 + k);
    for (const std::int64_t stride : {block, 8, 1}) {  // one error a row, some, all
      Tensor w = random(DType::f32, {rows, columns}, 37), scales = Tensor::empty(DType::f32, {rows, 1 + rest});
      for (std::int64_t r = 0; r < rows; ++r) {
        float *weight = w.data<float>() + r * columns, *scale = scales.data<float>() + r * (1 + rest);
        for (std::int64_t i = 0; i < block; ++i) weight[i] = i % stride == r % stride ? weight[i] : 0.0f;
        scale[0] = 0x1p20f;
        for (std::int64_t k = 0; k < rest; ++k) {
          double sum = 0.0, magnitude = 0.0;
          for (std::int64_t i = 0; i < block; ++i) {
            const double p = element(w, r * columns + i) * element(u, i * columns + block + k);
            sum += p;
            magnitude += std::fabs(p);
          }
          weight[block + k] = static_cast<float>(sum);
          const double n = static_cast<double>((block + stride - 1) / stride);
          scale[1 + k] = static_cast<float>(2.0 * (sum_unit(n) * magnitude + unit * std::fabs(sum)));
        }
      }
      const SweepResult got = sweep(*ops, w, u, block, scales, g_idx);
      std::int64_t wrong = 0;
      for (const std::uint8_t code : got.codes.span<std::uint8_t>()) wrong += code == zero_point ? 0 : 1;
      EXPECT_EQ(wrong, 0) << "of " << rows * rest << ", block " << block << ", one error in " << stride;
    }
  }
}

// A row swept in double precision, with a bound of what fp32 may do to each weight. It ends at the first code that
// another value within the bound would change.
struct ProvenRow {
  std::vector<std::uint8_t> codes;
  double row_error = 0.0, row_bound = 0.0;

  ProvenRow(const Tensor& w, const Tensor& u, std::int64_t row, int block, const float* scales, const Tensor& g_idx) {
    const std::int64_t columns = w.cols();
    std::vector<double> x(w.data<float>() + row * columns, w.data<float>() + (row + 1) * columns), bound(x.size());
    for (std::int64_t c = 0; c < columns; ++c) {
      const auto at = static_cast<std::size_t>(c);
      const float scale = scales[g_idx.data<std::int32_t>()[c]];
      const double steps = x[at] / scale, d = element(u, c * columns + c);
      if (std::fabs(std::fabs(steps - std::floor(steps)) - 0.5) <= bound[at] / scale + 2.0 * unit * std::fabs(steps))
        return;
      const float code = std::clamp(static_cast<float>(std::nearbyint(steps)) + zero_point, 0.0f, 15.0f);
      codes.push_back(static_cast<std::uint8_t>(code));
      const double delta = x[at] - static_cast<double>(value_of(code, {scale, zero_point})), e = delta / d;
      const double e_bound = bound[at] / d + 3.0 * unit * std::fabs(e);
      row_error += e * e / 2.0;
      row_bound += std::fabs(e) * e_bound + e_bound * e_bound / 2.0 + 4.0 * unit * e * e;
      for (std::int64_t k = c + 1; k < columns; ++k) {
        const double factor = element(u, c * columns + k);
        double& later = x[static_cast<std::size_t>(k)];
        later -= e * factor;
        bound[static_cast<std::size_t>(k)] +=
            e_bound * std::fabs(factor) + sum_unit(block) * std::fabs(e * factor) + unit * std::fabs(later);
      }
    }
  }
};

// Bounds grow from column to column by |U_ck| / U_cc, so that U is small beside its diagonal; a code then changes within
// its bound about once in 10^4 weights. Grids of columns in any order, blocks that do not divide the columns.
TEST_P(GptqStep, CodesThatTheErrorBoundsProveAreRight) {
  const std::int64_t rows = 70, columns = 330, groups = 5;
  Tensor u = random(DType::f32, {columns, columns}, 41), scales = random(DType::f32, {rows, groups}, 43);
  for (std::int64_t i = 0; i < columns * columns; ++i) {
    float& x = u.data<float>()[i];
    x = i / columns > i % columns ? 0.0f : i / columns == i % columns ? 1.0f + 0.1f * std::fabs(x) : x * 3.0f / columns;
  }
  for (float& s : scales.span<float>()) s = 0.25f + 0.02f * std::fabs(s);
  const Tensor w = random(DType::f32, {rows, columns}, 47);
  std::mt19937 generator(53);
  Tensor g_idx = Tensor::empty(DType::i32, {columns});
  for (std::int32_t& g : g_idx.span<std::int32_t>()) g = static_cast<std::int32_t>(generator() % groups);
  for (const int block : {50, 128, 136}) {
    const SweepResult got = sweep(*ops, w, u, block, scales, g_idx);
    std::int64_t proven = 0, wrong = 0;
    for (std::int64_t r = 0; r < rows; ++r) {
      const ProvenRow want(w, u, r, block, scales.data<float>() + r * groups, g_idx);
      const std::uint8_t* codes = got.codes.data<std::uint8_t>() + r * columns;
      for (std::size_t c = 0; c < want.codes.size(); ++c) wrong += codes[c] != want.codes[c] ? 1 : 0;
      if (static_cast<std::int64_t>(want.codes.size()) < columns) continue;
      ++proven;
      EXPECT_NEAR(element(got.row_error, r), want.row_error, want.row_bound) << r;
    }
    EXPECT_EQ(wrong, 0) << "block " << block;
    EXPECT_GE(proven, rows * 9 / 10) << "block " << block;  // else the test would say little
    RecordProperty("proven_rows_block_" + std::to_string(block), std::to_string(proven));
  }
}

}  // namespace
}  // namespace ptq::testing

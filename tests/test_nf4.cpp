// NF4: bitsandbytes' stored results bit for bit, and properties of blocks and of double quantization.
#include "host/checkpoint.h"
#include "model/nf4_book.h"
#include "quant/nf4.h"
#include "tests/golden_path.h"
#include "tests/quant_inputs.h"

#include <algorithm>
#include <cmath>

namespace ptq {
namespace {

QuantSpec nf4_spec(std::int64_t block, bool double_quant) {
  QuantSpec spec = defaults_of(Method::nf4);
  spec.group = block;
  spec.double_quant = double_quant;
  return spec;
}

template <class T>
void expect_same(const Tensor& ours, const Tensor& theirs, const std::string& what) {
  ASSERT_EQ(ours.numel(), theirs.numel()) << what;
  std::int64_t different = 0;
  for (std::int64_t i = 0; i < ours.numel(); ++i) different += ours.data<T>()[i] != theirs.data<T>()[i];
  EXPECT_EQ(different, 0) << what << ": values of " << ours.numel();
}

// Two codes a byte, the first element in the high nibble.
Tensor unpacked(const Tensor& packed) {
  Tensor codes = Tensor::empty(DType::u8, {2 * packed.numel()});
  for (std::int64_t i = 0; i < packed.numel(); ++i) {
    codes.data<std::uint8_t>()[2 * i] = packed.data<std::uint8_t>()[i] >> 4;
    codes.data<std::uint8_t>()[2 * i + 1] = packed.data<std::uint8_t>()[i] & 15;
  }
  return codes;
}

void compare(const Checkpoint& golden, std::int64_t block) {
  const Tensor w = golden.read("W", DType::f32);
  const std::string plain = fmt::format("nf4.b{}.plain.", block), dq = fmt::format("nf4.b{}.dq.", block);
  const QuantizedMatrix m = quantize_nf4(ops(), w, nf4_spec(block, false));
  expect_same<std::uint8_t>(m.codes, unpacked(golden.read(plain + "packed", DType::u8)), plain + "codes");
  expect_same<float>(m.scales, golden.read(plain + "absmax", DType::f32), plain + "absmax");
  expect_same<float>(m.q, golden.read(plain + "dequantized", DType::f32), plain + "dequantized");

  const DoubleQuantized d = double_quantize(m.scales);
  EXPECT_EQ(d.offset, golden.read(dq + "offset", DType::f32).data<float>()[0]) << dq;
  expect_same<float>(d.absmax2, golden.read(dq + "state2_absmax", DType::f32), dq + "state2_absmax");
  expect_same<std::uint8_t>(d.codes, golden.read(dq + "absmax", DType::u8), dq + "absmax");
  const QuantizedMatrix twice = quantize_nf4(ops(), w, nf4_spec(block, true));
  expect_same<std::uint8_t>(twice.codes, unpacked(golden.read(dq + "packed", DType::u8)), dq + "codes");
  expect_same<float>(twice.q, golden.read(dq + "dequantized", DType::f32), dq + "dequantized");
}

TEST(Nf4Golden, Bitsandbytes) {
  PTQ_NEED(golden, "PTQ_GOLDEN", "quant/nf4");
  const auto a = open_safetensors(golden / "nf4_fp4_a.safetensors");
  const auto b = open_safetensors(golden / "nf4_b.safetensors");
  const Tensor book = a->read("nf4_code", DType::f32);
  for (std::size_t i = 0; i < nf4_book.size(); ++i) EXPECT_EQ(nf4_book[i], book.data<float>()[i]) << i;
  const Tensor dynamic = a->read("nf4.b64.dq.state2_code", DType::f32);
  for (std::size_t i = 0; i < dynamic_book().size(); ++i) EXPECT_EQ(dynamic_book()[i], dynamic.data<float>()[i]) << i;
  compare(*a, 64);
  compare(*a, 128);
  compare(*b, 64);
}

TEST(Nf4, NearestInEveryBlockAlsoTheShortOne) {
  const Tensor w = gaussian(7, 45, 3);  // 315 elements: blocks cross rows, the last one is short
  for (std::int64_t block : {2, 16, 64, 100, 315, 4096}) {
    const QuantizedMatrix m = quantize_nf4(ops(), w, nf4_spec(block, false));
    ASSERT_EQ(m.scales.numel(), (315 + block - 1) / block);
    for (std::int64_t i = 0; i < 315; ++i) {
      float absmax = 0.0f;
      for (std::int64_t j = i / block * block; j < std::min<std::int64_t>(315, (i / block + 1) * block); ++j)
        absmax = std::max(absmax, std::fabs(w.data<float>()[j]));
      ASSERT_EQ(m.scales.data<float>()[i / block], absmax);
      const float error = std::fabs(m.q.data<float>()[i] - w.data<float>()[i]);
      for (float value : nf4_book) {
        // One rounding each for the quotient and the product.
        ASSERT_LE(error, std::fabs(value * absmax - w.data<float>()[i]) + 3e-7f * absmax) << block << " " << i;
      }
    }
  }
}

TEST(Nf4, DoubleQuantizationStaysClose) {
  const Tensor w = gaussian(64, 512, 5);
  const QuantizedMatrix plain = quantize_nf4(ops(), w, nf4_spec(64, false));
  const QuantizedMatrix twice = quantize_nf4(ops(), w, nf4_spec(64, true));
  expect_same<std::uint8_t>(plain.codes, twice.codes, "codes");
  float widest = 0.0f;
  for (std::size_t i = 1; i < dynamic_book().size(); ++i)
    widest = std::max(widest, dynamic_book()[i] - dynamic_book()[i - 1]);
  const DoubleQuantized d = double_quantize(plain.scales);
  bool changed = false;
  for (std::int64_t i = 0; i < plain.scales.numel(); ++i) {
    const float a = plain.scales.data<float>()[i], b = twice.scales.data<float>()[i];
    // Half a gap of the book and half a step of the table of 65536 points over [-1, 1].
    EXPECT_NEAR(a, b, (widest / 2 + 1.0f / 65535) * d.absmax2.data<float>()[i / 256] * 1.0001f);
    changed = changed || a != b;
  }
  EXPECT_TRUE(changed);
}

TEST(Nf4, DegenerateWeights) {
  Tensor w = Tensor::zeros(DType::f32, {2, 64});
  for (bool dq : {false, true}) {
    const QuantizedMatrix zero = quantize_nf4(ops(), w, nf4_spec(64, dq));
    for (float v : zero.q.span<float>()) EXPECT_EQ(v, 0.0f);
  }
  std::fill_n(w.data<float>(), 128, 0.75f);  // all absmax equal: residuals are 0
  const QuantizedMatrix constant = quantize_nf4(ops(), w, nf4_spec(64, true));
  for (float v : constant.q.span<float>()) EXPECT_EQ(v, 0.75f);
}

}  // namespace
}  // namespace ptq

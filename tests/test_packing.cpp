// model/packing.h and model/packed_format.h: codes in 32-bit words, against the public test vectors (spec F.5), packed
// tensors of AutoGPTQ and AutoAWQ (golden/quant), and random round trips.
#include "model/packing.h"

#include "compare.h"
#include "golden_path.h"
#include "model/packed_format.h"
#include "temporary.h"

#include <cstring>
#include <random>

namespace ptq {
namespace {

using testing::same_bits;

Tensor codes_of(std::initializer_list<int> values, Shape shape) {
  std::vector<std::uint8_t> bytes(values.begin(), values.end());
  return Tensor::of(bytes, std::move(shape));
}

Tensor random_codes(std::int64_t rows, std::int64_t cols, int bits, unsigned seed) {
  Tensor t = Tensor::empty(DType::u8, {rows, cols});
  std::mt19937 random(seed);
  for (std::uint8_t& c : t.span<std::uint8_t>()) c = static_cast<std::uint8_t>(random() & ((1u << bits) - 1));
  return t;
}

std::uint32_t word(const Tensor& t, std::int64_t i) { return static_cast<std::uint32_t>(t.data<std::int32_t>()[i]); }

TEST(Packing, KnownWords) {
  const Tensor run = codes_of({0, 1, 2, 3, 4, 5, 6, 7}, {1, 8});
  EXPECT_EQ(word(pack_rows(run, 4), 0), 0x76543210u);
  EXPECT_EQ(word(pack_rows(awq_interleave(run), 4), 0), 0x75316420u);
  EXPECT_EQ(word(pack_rows(codes_of({1, 2, 3, 255}, {1, 4}), 8), 0), 0xff030201u);
  EXPECT_EQ(word(pack_rows(codes_of({3, 2, 1, 0, 3, 2, 1, 0, 3, 2, 1, 0, 3, 2, 1, 0}, {1, 16}), 2), 0), 0x1b1b1b1bu);
}

// The reference's 3-bit layout, transcribed from its description: 10 codes and two bits of the 11th; its last bit, 10
// codes and one bit of the 22nd; its last two bits and 10 codes.
TEST(Packing, ThreeBitsFillThreeWords) {
  const Tensor codes = random_codes(1, 32, 3, 5);
  const auto c = [&](int i) { return std::uint32_t{codes.data<std::uint8_t>()[i]}; };
  std::uint32_t want[3] = {0, 0, 0};
  for (int i = 0; i < 10; ++i) {
    want[0] |= c(i) << (3 * i);
    want[1] |= c(11 + i) << (3 * i + 1);
    want[2] |= c(22 + i) << (3 * i + 2);
  }
  want[0] |= c(10) << 30;
  want[1] |= c(10) >> 2 | c(21) << 31;
  want[2] |= c(21) >> 1;
  const Tensor words = pack_rows(codes, 3);
  ASSERT_EQ(words.shape(), (Shape{1, 3}));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(word(words, i), want[i]) << i;
}

TEST(Packing, RoundTrips) {
  for (int bits : {2, 3, 4, 8}) {
    for (std::int64_t cols : {1, 7, 8, 31, 32, 33, 96, 172, 256}) {
      const Tensor codes = random_codes(5, cols, bits, static_cast<unsigned>(cols));
      const Tensor words = pack_rows(codes, bits);
      EXPECT_EQ(words.shape(), (Shape{5, packed_words(cols, bits)}));
      EXPECT_TRUE(same_bits(unpack_rows(words, bits, cols), codes)) << bits << " bits, " << cols;
    }
  }
  const Tensor codes = random_codes(67, 136, 4, 1);
  EXPECT_TRUE(same_bits(transpose(transpose(codes)), codes));
  EXPECT_EQ(transpose(codes).data<std::uint8_t>()[3 * 67 + 2], codes.data<std::uint8_t>()[2 * 136 + 3]);
  EXPECT_TRUE(same_bits(awq_deinterleave(awq_interleave(codes)), codes));
}

// --- whole linears -------------------------------------------------------------------------------------------------

CodedWeight random_weight(const PackedConfig& c, std::int64_t n, std::int64_t i, unsigned seed) {
  const std::int64_t groups = c.group == -1 ? 1 : (i + c.group - 1) / c.group;
  std::mt19937 random(seed);
  CodedWeight w;
  w.bits = c.bits;
  w.codes = random_codes(n, i, c.bits, seed);
  w.scales = Tensor::empty(DType::f32, {n, groups});
  w.zeros = Tensor::empty(DType::f32, {n, groups});
  for (float& s : w.scales.span<float>()) s = to_float(to_f16(0.001f + static_cast<float>(random() % 1000) / 1000.0f));
  for (float& z : w.zeros.span<float>()) {
    z = static_cast<float>(c.symmetric ? 1u << (c.bits - 1) : 1 + random() % ((1u << c.bits) - 1));
  }
  w.g_idx = Tensor::empty(DType::i32, {i});
  for (std::int64_t k = 0; k < i; ++k) {
    const auto run = c.group == -1 ? 0 : k / c.group;
    w.g_idx.data<std::int32_t>()[k] =
        static_cast<std::int32_t>(c.act_order ? static_cast<std::int64_t>(random()) % groups : run);
  }
  return w;
}

void expect_equal(const CodedWeight& a, const CodedWeight& b) {
  EXPECT_EQ(a.bits, b.bits);
  EXPECT_TRUE(same_bits(a.codes, b.codes));
  EXPECT_TRUE(same_bits(a.scales, b.scales));
  EXPECT_TRUE(same_bits(a.zeros, b.zeros));
  EXPECT_TRUE(same_bits(a.g_idx, b.g_idx));
  EXPECT_TRUE(same_bits(dequantize(a), dequantize(b)));
}

// What is written is what is declared and what is read, in every format.
TEST(PackedFormat, ReadsWhatItWrites) {
  const TemporaryDirectory dir;
  int cases = 0;
  for (const PackedFormat format :
       {PackedFormat::gptq, PackedFormat::gptq_v2, PackedFormat::awq_gemm, PackedFormat::pack_quantized}) {
    for (const int bits : {2, 3, 4, 8}) {
      for (const std::int64_t group : {-1, 32}) {
        for (const bool act_order : {false, true}) {
          for (const bool symmetric : {true, false}) {
            const bool gptq = format == PackedFormat::gptq || format == PackedFormat::gptq_v2;
            if (format == PackedFormat::awq_gemm && (bits != 4 || act_order || symmetric)) continue;
            if (format == PackedFormat::pack_quantized && bits != 4 && bits != 8) continue;
            PackedConfig c{format, bits, group, symmetric, act_order, false, {}};
            SCOPED_TRACE(fmt::format("{} {} bits, group {}, act-order {}, sym {}", name_of(format), bits, group,
                                     act_order, symmetric));
            // Shapes that only fit loosely: pack-quantized pads rows and columns, AWQ packs along rows.
            const std::int64_t n = gptq ? 96 : format == PackedFormat::awq_gemm ? 40 : 37;
            const std::int64_t i = format == PackedFormat::pack_quantized && group == -1 ? 172 : 128;
            const CodedWeight w = random_weight(c, n, i, static_cast<unsigned>(++cases));
            const auto tensors = pack(c, "m", w, DType::f16);
            for (const auto& [name, want] : packed_tensors(c, "m", n, i)) {
              if (!tensors.contains(name)) {
                EXPECT_TRUE(want.optional) << name;
                continue;
              }
              EXPECT_EQ(tensors.at(name).shape(), want.shape) << name;
            }
            const auto path = dir / "t.safetensors";
            write_safetensors(path, tensors);
            expect_equal(read_codes(*open_safetensors(path), c, "m", n, i), w);
          }
        }
      }
    }
  }
  EXPECT_GT(cases, 40);
}

TEST(PackedFormat, Int8RowsRoundTrip) {
  const TemporaryDirectory dir;
  Int8Weight w{Tensor::empty(DType::i8, {3, 5}), Tensor::of<float>({0.5f, 2.0f, 0.25f}, {3})};
  for (int k = 0; k < 15; ++k) w.codes.data<std::int8_t>()[k] = static_cast<std::int8_t>(k * 18 - 126);
  write_safetensors(dir / "t.safetensors", pack("m", w, DType::bf16));
  const Int8Weight back = read_int8(*open_safetensors(dir / "t.safetensors"), "m", 3, 5);
  EXPECT_TRUE(same_bits(back.codes, w.codes));
  EXPECT_TRUE(same_bits(back.scales, w.scales));
  EXPECT_EQ(dequantize(w).data<float>()[6], 2.0f * (6 * 18 - 126));
  EXPECT_TRUE(same_bits(dequantize(rows_of(w, 1, 2)), dequantize(w).slice_rows(1, 2)));
}

TEST(PackedFormat, GptqV1CannotHoldAZeroPointOfZero) {
  const PackedConfig v1{PackedFormat::gptq, 4, 32, false, false, false, {}};
  PackedConfig v2 = v1;
  v2.format = PackedFormat::gptq_v2;
  CodedWeight w = random_weight(v1, 32, 64, 3);
  w.zeros.data<float>()[2 * 7 + 1] = 0.0f;
  expect_error(Exit::usage, "m: the zero point of row 7, group 1 is 0", [&] { pack(v1, "m", w, DType::f16); });
  EXPECT_EQ(pack(v2, "m", w, DType::f16).at("m.qzeros").shape(), (Shape{2, 4}));
}

// --- against the references ----------------------------------------------------------------------------------------

TEST(GoldenPacking, AutoGptq) {
  PTQ_NEED(golden, "PTQ_GOLDEN", "quant/gptq_pack");
  struct Case {
    const char* name;
    std::int64_t group;
    bool symmetric, act_order;
  };
  for (const Case& c :
       {Case{"sym_g64_f16", 64, true, false}, Case{"sym_g32_actorder_f16", 32, true, true},
        Case{"asym_g64_f32", 64, false, false}, Case{"asym_g128_actorder_static_f16", 128, false, true}}) {
    SCOPED_TRACE(c.name);
    const auto file = open_safetensors(golden / (std::string(c.name) + ".safetensors"));
    const DType dtype = file->tensors().at("scales").dtype;
    CodedWeight w;
    w.codes = file->read("codes", DType::u8);
    w.scales = file->read("scale_f32", DType::f32);
    w.zeros = file->read("zero_f32", DType::f32);
    w.g_idx = file->read("g_idx", DType::i32);
    const std::int64_t n = w.codes.rows(), k = w.codes.cols();
    const PackedConfig config{PackedFormat::gptq, 4, c.group, c.symmetric, c.act_order, false, {}};
    for (const auto& [name, tensor] : pack(config, "m", w, dtype)) {
      EXPECT_TRUE(same_bits(tensor, file->read(name.substr(2), tensor.dtype()))) << name;
    }

    // The reference's tensors as a checkpoint, and its own forward pass: y = x w^T + bias, in its dtype.
    const TemporaryDirectory dir;
    std::map<std::string, Tensor> stored;
    for (const char* name : {"qweight", "qzeros", "g_idx"})
      stored[std::string("m.") + name] = file->read(name, DType::i32);
    stored["m.scales"] = file->read("scales", dtype);
    write_safetensors(dir / "t.safetensors", stored);
    const CodedWeight back = read_codes(*open_safetensors(dir / "t.safetensors"), config, "m", n, k);
    EXPECT_TRUE(same_bits(back.codes, w.codes));
    EXPECT_TRUE(same_bits(back.zeros, w.zeros));
    const Tensor value = dequantize(back);
    const Tensor x = file->read("x", DType::f32), bias = file->read("bias", DType::f32);
    const Tensor y = file->read("y_reader", DType::f32);
    // Roundings of the reference: each weight to its dtype, the sum (k terms in fp32), the output.
    const double unit = dtype == DType::f16 ? 0x1p-11 : 0x1p-24;
    for (std::int64_t t = 0; t < x.rows(); ++t) {
      for (std::int64_t r = 0; r < n; ++r) {
        double sum = bias.data<float>()[r], magnitude = std::fabs(sum);
        for (std::int64_t i = 0; i < k; ++i) {
          const double term = double{x.data<float>()[t * k + i]} * value.data<float>()[r * k + i];
          sum += term;
          magnitude += std::fabs(term);
        }
        EXPECT_NEAR(y.data<float>()[t * n + r], sum, (4 * unit + static_cast<double>(k) * 0x1p-24) * magnitude)
            << t << " " << r;
      }
    }
  }
}

// Zero points of 0 spill into the other codes of the reference's words; neither side of us lets that happen.
TEST(GoldenPacking, AutoGptqsDefectIsRefused) {
  PTQ_NEED(golden, "PTQ_GOLDEN", "quant/gptq_pack");
  const auto file = open_safetensors(golden / "asym_g64_zero0_f32.safetensors");
  const PackedConfig config{PackedFormat::gptq, 4, 64, false, false, false, {}};
  CodedWeight w{4, file->read("codes", DType::u8), file->read("scale_f32", DType::f32),
                file->read("zero_f32", DType::f32), file->read("g_idx", DType::i32)};
  expect_error(Exit::usage, "gptq-v2", [&] { pack(config, "m", w, DType::f32); });
  const TemporaryDirectory dir;
  write_safetensors(dir / "t.safetensors", {{"m.qweight", file->read("qweight", DType::i32)},
                                            {"m.qzeros", file->read("qzeros", DType::i32)},
                                            {"m.g_idx", file->read("g_idx", DType::i32)},
                                            {"m.scales", file->read("scales", DType::f32)}});
  expect_error(Exit::data, "m.qzeros: a stored 15 in GPTQ v1",
               [&] { read_codes(*open_safetensors(dir / "t.safetensors"), config, "m", 32, 128); });
}

TEST(GoldenPacking, AutoAwq) {
  PTQ_NEED(golden, "PTQ_GOLDEN", "quant/awq");
  const auto file = open_safetensors(golden / "autoawq_llama_gqa_g64_duo.safetensors");
  const PackedConfig config{PackedFormat::awq_gemm, 4, 64, false, false, false, {}};
  for (const std::string module : {"0.self_attn.q_proj", "1.mlp.down_proj"}) {
    SCOPED_TRACE(module);
    const Tensor value_kn = file->read("pack." + module + ".dequantized_KN", DType::f16);
    const std::int64_t k = value_kn.dim(0), n = value_kn.dim(1);
    const TemporaryDirectory dir;
    std::map<std::string, Tensor> stored;
    for (const char* name : {"qweight", "qzeros"}) {
      stored[module + "." + name] = file->read("pack." + module + "." + name, DType::i32);
    }
    stored[module + ".scales"] = file->read("pack." + module + ".scales", DType::f16);
    write_safetensors(dir / "t.safetensors", stored);
    const CodedWeight w = read_codes(*open_safetensors(dir / "t.safetensors"), config, module, n, k);
    // The reference multiplies in float16, one rounding of an exact product.
    EXPECT_TRUE(same_bits(dequantize(w).to(DType::f16), transpose(value_kn)));
    for (const auto& [name, tensor] : pack(config, module, w, DType::f16)) {
      EXPECT_TRUE(same_bits(tensor, stored.at(name))) << name;
    }
  }
}

}  // namespace
}  // namespace ptq

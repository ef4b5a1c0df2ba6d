// Rounding to a code book: nearest value, midpoints down, zero rows, and the reference's codes.
#include "backends.h"
#include "compare.h"
#include "golden_path.h"
#include "host/checkpoint.h"
#include "model/nf4_book.h"

namespace ptq::testing {
namespace {

using Codebook = OpsTest;
PTQ_ON_ALL_BACKENDS(Codebook);

struct Coded {
  Tensor codes, absmax;
};

Coded coded(Ops& ops, const Tensor& w, CodeBook book) {
  const Guarded codes(ops, DType::u8, w.shape()), absmax(ops, DType::f32, {w.rows()});
  ops.round_to_book(codes.tensor(), absmax.tensor(), ops.to_device(w), book);
  return {codes.read(), absmax.read()};
}

// Nearest book value to x = w / absmax, by exhaustion; the distances of a tie are equal in exact arithmetic.
std::uint8_t nearest(float x, CodeBook book) {
  std::size_t best = 0;
  for (std::size_t i = 1; i < book.size(); ++i) {
    if (std::fabs(double{x} - book[i]) < std::fabs(double{x} - book[best])) best = i;
  }
  return static_cast<std::uint8_t>(best);
}

TEST_P(Codebook, NearestValue) {
  const std::vector<float> coarse{-1.0f, 0.0f, 0.25f, 1.0f}, single{0.0f};
  std::vector<float> fine;
  for (int i = 0; i < 256; ++i) fine.push_back(static_cast<float>(i - 128) / 128.0f);
  for (const CodeBook book : {CodeBook(nf4_book), CodeBook(coarse), CodeBook(single), CodeBook(fine)}) {
    for (std::int64_t columns : awkward) {
      const Tensor w = random(DType::f32, {300, columns}, static_cast<unsigned>(columns));
      const Coded got = coded(*ops, w, book);
      for (std::int64_t r = 0; r < 300; ++r) {
        float absmax = 0.0f;
        for (std::int64_t c = 0; c < columns; ++c)
          absmax = std::max(absmax, std::fabs(w.data<float>()[r * columns + c]));
        ASSERT_EQ(got.absmax.data<float>()[r], absmax);
        for (std::int64_t c = 0; c < columns; ++c) {
          ASSERT_EQ(got.codes.data<std::uint8_t>()[r * columns + c],
                    nearest(w.data<float>()[r * columns + c] / absmax, book));
        }
      }
    }
  }
}

TEST_P(Codebook, MidpointsTakeTheLowerCodeAndZeroRowsTheCodeOfZero) {
  const std::vector<float> book{-1.0f, -0.5f, 0.0f, 0.25f, 1.0f};
  const float up = 1.0f, down = -1.0f;
  const Tensor w = Tensor::of<float>({1.0f, -0.75f, std::nextafter(-0.75f, up), -0.25f, 0.125f, 0.625f,
                                      std::nextafter(0.625f, up), std::nextafter(0.125f, down),  //
                                      0, 0, 0, 0, 0, 0, 0, 0},
                                     {2, 8});
  const Coded got = coded(*ops, w, book);
  EXPECT_TRUE(same_bits(got.codes, Tensor::of<std::uint8_t>({4, 0, 1, 1, 2, 3, 4, 2, 2, 2, 2, 2, 2, 2, 2, 2}, {2, 8})));
  EXPECT_EQ(got.absmax.data<float>()[1], 0.0f);
}

TEST_P(Codebook, AgreesWithBitsandbytes) {
  PTQ_NEED(path, "PTQ_GOLDEN", "quant/nf4/nf4_fp4_a.safetensors");
  const auto file = open_safetensors(path);
  const Tensor w = file->read("W", DType::f32), packed = file->read("nf4.b64.plain.packed", DType::u8);
  const Coded got = coded(*ops, w.reshape({w.numel() / 64, 64}), nf4_book);
  for (std::int64_t i = 0; i < w.numel(); ++i) {
    const int byte = packed.data<std::uint8_t>()[i / 2];
    ASSERT_EQ(got.codes.data<std::uint8_t>()[i], i % 2 == 0 ? byte >> 4 : byte & 15) << i;
  }
  EXPECT_TRUE(same_bits(got.absmax.reshape({w.numel() / 64}), file->read("nf4.b64.plain.absmax", DType::f32)));
}

TEST_P(Codebook, FakeRoundingGivesTheValuesOfTheCodes) {
  for (DType t : {DType::f32, DType::bf16, DType::f16}) {
    for (std::int64_t columns : {1, 63, 64, 65, 200}) {
      for (std::int64_t block : {1, 48, 64, 1000}) {
        const Tensor x = random(t, {11, columns}, static_cast<unsigned>(columns));
        const Guarded y(*ops, t, {11, columns}), in_place(*ops, t, {11, columns}, x);
        ops->fake_round_to_book(y.tensor(), device(x), nf4_book, block);
        ops->fake_round_to_book(in_place.tensor(), in_place.tensor(), nf4_book, block);
        Tensor want = x.to(DType::f32).clone();
        for (std::int64_t r = 0; r < 11; ++r) {
          for (std::int64_t b = 0; b < columns; b += block) {
            const std::int64_t n = std::min(block, columns - b);
            float* run = want.data<float>() + r * columns + b;
            const Coded c = coded(*ops, Tensor::of(std::vector<float>(run, run + n), {1, n}), nf4_book);
            for (std::int64_t i = 0; i < n; ++i) {
              run[i] = nf4_book[c.codes.data<std::uint8_t>()[i]] * c.absmax.data<float>()[0];
            }
          }
        }
        const Tensor got = y.read();
        EXPECT_TRUE(same_bits(got, want.to(t))) << name_of(t) << " " << columns << " " << block;
        EXPECT_TRUE(same_bits(in_place.read(), got));
      }
    }
  }
}

TEST_P(Codebook, FakeRoundingKeepsNanInItsBlock) {
  Tensor x = random(DType::f32, {2, 128}, 3);
  x.data<float>()[70] = NAN;
  const Guarded y(*ops, DType::f32, {2, 128}, x);
  ops->fake_round_to_book(y.tensor(), y.tensor(), nf4_book, 64);
  const Tensor got = y.read();
  for (std::int64_t i = 0; i < 256; ++i) EXPECT_EQ(std::isnan(got.data<float>()[i]), 64 <= i && i < 128) << i;
}

}  // namespace
}  // namespace ptq::testing

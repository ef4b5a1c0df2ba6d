// Attention against the explicit softmax in double precision: grouped heads, windows, caps, prefixes, odd sizes.
#include "backends.h"
#include "reference.h"

namespace ptq::testing {
namespace {

using Attention = OpsTest;
PTQ_ON_ALL_BACKENDS(Attention);

struct Case {
  AttentionSpec spec;
  std::vector<Segment> segments;
};

AttentionSpec make_spec(int heads, int kv_heads, int head_dim, std::int32_t window = 0, float cap = 0.0f) {
  return {heads, kv_heads, head_dim, 1.0f / std::sqrt(static_cast<float>(head_dim)), cap, window};
}

struct Inputs {
  Tensor q, k, v;
};

Inputs make_inputs(const AttentionSpec& a, std::int64_t tokens, DType t, unsigned seed) {
  return {random(t, {tokens, a.heads * a.head_dim}, seed), random(t, {tokens, a.kv_heads * a.head_dim}, seed + 1),
          random(t, {tokens, a.kv_heads * a.head_dim}, seed + 2)};
}

Tensor run(Ops& ops, const Inputs& in, const std::vector<Segment>& segments, const AttentionSpec& a) {
  Guarded o(ops, in.q.dtype(), in.q.shape());
  ops.attention(o.tensor(), ops.to_device(in.q), ops.to_device(in.k), ops.to_device(in.v), segments, a);
  return o.read();
}

void expect_right(Ops& ops, const AttentionSpec& a, const std::vector<Segment>& segments, DType t, unsigned seed) {
  const Inputs in = make_inputs(a, segments.back().end, t, seed);
  EXPECT_TRUE(near(run(ops, in, segments, a), attention(in.q, in.k, in.v, segments, a)))
      << name_of(t) << " H " << a.heads << " K " << a.kv_heads << " C " << a.head_dim << " window " << a.window
      << " cap " << a.soft_cap << " tokens " << segments.back().end;
}

TEST_P(Attention, AwkwardLengthsAndHeads) {
  unsigned seed = 1;
  for (std::int32_t tokens : {1, 2, 21, 22, 64, 95, 96, 97, 200}) {
    for (auto [h, k, c] : {std::tuple{1, 1, 8}, {3, 1, 10}, {4, 2, 14}, {9, 3, 22}, {2, 2, 64}}) {
      for (DType t : {DType::f32, DType::bf16, DType::f16}) {
        expect_right(*ops, make_spec(h, k, c), {{0, tokens, -1}}, t, ++seed);
      }
    }
  }
}

// Every number of registers of a head, with rows of whole vectors and without.
TEST_P(Attention, SizesOfHeads) {
  for (int c : {24, 50, 70, 80, 110, 128, 129, 192, 250, 256}) {
    for (DType t : {DType::f32, DType::bf16, DType::f16}) {
      expect_right(*ops, make_spec(2, 1, c), {{0, 130, -1}}, t, 7);
      expect_right(*ops, make_spec(3, 3, c, 20), {{0, 33, -1}, {33, 70, 0}}, t, 8);
    }
  }
}

// Around tiles of 8, 16, 32 and 64 keys and of 64 (token, query head) rows.
TEST_P(Attention, LengthsAroundTiles) {
  unsigned seed = 50;
  for (std::int32_t tokens : {7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 65, 127, 128, 129}) {
    for (DType t : {DType::f32, DType::bf16, DType::f16}) {
      expect_right(*ops, make_spec(2, 2, 16), {{0, tokens, -1}}, t, ++seed);
      expect_right(*ops, make_spec(5, 1, 40, tokens / 2), {{0, tokens, -1}}, t, ++seed);
    }
  }
}

// Rows that do not begin at multiples of 16 bytes, though their length would allow it.
TEST_P(Attention, UnalignedMemory) {
  for (DType t : {DType::f32, DType::bf16, DType::f16}) {
    const AttentionSpec a = make_spec(2, 1, 16);
    const Inputs in = make_inputs(a, 70, t, 12);
    const auto shifted = [&](const Tensor& x) {
      const Tensor all = Tensor::zeros(t, {x.numel() + 1});
      std::memcpy(all.slice_rows(1, x.numel() + 1).raw(), x.raw(), x.bytes());
      return device(all).slice_rows(1, x.numel() + 1).reshape(x.shape());
    };
    const Tensor o = shifted(Tensor::zeros(t, in.q.shape()));
    ops->attention(o, shifted(in.q), shifted(in.k), shifted(in.v), std::vector<Segment>{{0, 70, -1}}, a);
    EXPECT_TRUE(same_bits(ops->to_host(o), run(*ops, in, {{0, 70, -1}}, a))) << name_of(t);
  }
}

TEST_P(Attention, WindowsAndCaps) {
  unsigned seed = 100;
  for (std::int32_t window : {1, 2, 63, 96, 100, 500}) {
    expect_right(*ops, make_spec(4, 2, 16, window), {{0, 300, -1}}, DType::f32, ++seed);
    expect_right(*ops, make_spec(1, 1, 8, window, 3.0f), {{0, 110, -1}}, DType::f32, ++seed);
  }
  for (DType t : {DType::bf16, DType::f16}) {
    expect_right(*ops, make_spec(2, 1, 16, 0, 50.0f), {{0, 200, -1}}, t, ++seed);
    expect_right(*ops, make_spec(4, 2, 16, 63, 2.0f), {{0, 200, -1}}, t, ++seed);
    // Windows that end one key into a tile of 64 for the last of 16 rows.
    for (std::int32_t window : {78, 79, 80}) expect_right(*ops, make_spec(1, 1, 16, window), {{0, 200, -1}}, t, ++seed);
  }
}

TEST_P(Attention, SegmentsAndPrefixes) {
  const std::vector<Segment> segments{{0, 100, -1},   {100, 101, 0}, {101, 140, 0}, {140, 150, -1},
                                      {150, 150, -1}, {150, 260, 3}, {260, 290, 0}};
  unsigned seed = 200;
  for (DType t : {DType::f32, DType::bf16}) {
    expect_right(*ops, make_spec(6, 2, 10), segments, t, ++seed);
    expect_right(*ops, make_spec(6, 2, 10, 40), segments, t, ++seed);
  }
}

// Values chosen so that a row's sum almost cancels: its own rounding is then small, and weights that were rounded to
// a half, or to two bf16, would be seen.
TEST_P(Attention, WeightsAreNotRounded) {
  constexpr int c = 8, count = 200;
  const AttentionSpec a = make_spec(1, 1, c);
  for (DType t : {DType::f32, DType::bf16, DType::f16}) {
    const Inputs random_inputs = make_inputs(a, 3 * count, DType::f32, 77);
    for (float& x : random_inputs.q.span<float>()) x *= 0.5f;
    const Inputs in{random_inputs.q.to(t), random_inputs.k.to(t), Tensor::zeros(t, {3 * count, c})};
    Tensor v = Tensor::zeros(DType::f32, {3 * count, c});
    std::vector<Segment> segments;
    for (std::int32_t s = 0; s < count; ++s) {
      segments.push_back({3 * s, 3 * s + 3, -1});
      double weight[3];
      for (int j = 0; j < 3; ++j) {
        double score = 0.0;
        for (int d = 0; d < c; ++d) score += element(in.q, (3 * s + 2) * c + d) * element(in.k, (3 * s + j) * c + d);
        weight[j] = std::exp(a.scale * score);
      }
      for (int d = 0; d < c; ++d) {
        const auto rounded = [&](double x) {
          const Tensor one = Tensor::of<float>({static_cast<float>(x)}, {1}).to(t);
          return element(one, 0);
        };
        const double first = 1.0 + d / 8.0, second = rounded(-weight[0] * first / weight[1]);
        const double third = rounded(-(weight[0] * first + weight[1] * second) / weight[2]);
        const double values[] = {first, second, third};
        for (int j = 0; j < 3; ++j) v.data<float>()[(3 * s + j) * c + d] = static_cast<float>(values[j]);
      }
    }
    const Inputs chosen{in.q, in.k, v.to(t)};
    EXPECT_TRUE(near(run(*ops, chosen, segments, a), attention(chosen.q, chosen.k, chosen.v, segments, a)))
        << name_of(t);
  }
}

// Keys far below the largest score whose values are all that is left: their weights are small but not lost.
TEST_P(Attention, SmallWeightsKeepTheirBits) {
  const AttentionSpec a{1, 1, 8, 1.0f, 0.0f, 0};
  for (DType t : {DType::f32, DType::bf16, DType::f16}) {
    Tensor q = Tensor::zeros(DType::f32, {100, 8}), k = Tensor::zeros(DType::f32, {100, 8});
    const Tensor v = random(DType::f32, {100, 8}, 31, Data::positive);
    for (int i = 0; i < 100; ++i) {
      q.data<float>()[8 * i] = 1.0f;
      k.data<float>()[8 * i] = i == 0 ? 0.0f : -12.0f - static_cast<float>(i % 16) / 8.0f;  // weights of e^-12 .. e^-14
    }
    for (int d = 0; d < 8; ++d) v.data<float>()[d] = 0.0f;
    for (float& x : v.span<float>()) x *= 256.0f;
    const Inputs in{q.to(t), k.to(t), v.to(t)};
    const std::vector<Segment> segments{{0, 100, -1}};
    EXPECT_TRUE(near(run(*ops, in, segments, a), attention(in.q, in.k, in.v, segments, a))) << name_of(t);
  }
}

// Large scores: softmax must subtract the maximum.
TEST_P(Attention, LargeScoresDoNotOverflow) {
  AttentionSpec a = make_spec(1, 1, 8);
  a.scale = 100.0f;
  const std::vector<Segment> segments{{0, 150, -1}};
  const Inputs in = make_inputs(a, 150, DType::f32, 5);
  const Tensor o = run(*ops, in, segments, a);
  for (float x : o.span<float>()) EXPECT_TRUE(std::isfinite(x));
}

// Row 0 sees only itself: o = v exactly.
TEST_P(Attention, FirstTokenCopiesItsValue) {
  const AttentionSpec a = make_spec(2, 1, 10);
  const Inputs in = make_inputs(a, 50, DType::f32, 5);
  const Tensor o = run(*ops, in, {{0, 50, -1}}, a);
  for (int h = 0; h < 2; ++h) {
    for (int c = 0; c < 10; ++c) EXPECT_EQ(o.data<float>()[h * 10 + c], in.v.data<float>()[c]);
  }
}

TEST_P(Attention, NaNStaysInItsFuture) {
  const AttentionSpec a = make_spec(1, 1, 8);
  for (DType t : {DType::f32, DType::bf16, DType::f16}) {
    const Inputs clean = make_inputs(a, 200, DType::f32, 5);
    for (bool key : {false, true}) {
      const Inputs in{clean.q.clone(), clean.k.clone(), clean.v};
      (key ? in.k : in.q).data<float>()[150 * 8] = NAN;
      const Tensor o = run(*ops, {in.q.to(t), in.k.to(t), in.v.to(t)}, {{0, 200, -1}}, a);
      for (int i = 0; i < 200; ++i) EXPECT_EQ(std::isnan(element(o, i * 8)), key ? i >= 150 : i == 150) << i;
    }
  }
}

// A NaN in V does not reach other segments, also where their keys share a tile's worth of memory.
TEST_P(Attention, NaNStaysInItsSegment) {
  const AttentionSpec a = make_spec(1, 1, 8);
  for (DType t : {DType::f32, DType::bf16, DType::f16}) {
    const Inputs in = make_inputs(a, 100, DType::f32, 5);
    for (int d = 0; d < 8; ++d) in.v.data<float>()[50 * 8 + d] = NAN;
    const Tensor o =
        run(*ops, {in.q.to(t), in.k.to(t), in.v.to(t)}, {{0, 50, -1}, {50, 51, -1}, {51, 70, -1}, {70, 100, 0}}, a);
    for (int i = 0; i < 100; ++i) EXPECT_EQ(std::isnan(element(o, i * 8)), i == 50) << i;
  }
}

// Future tokens have no influence, not even on the last bit.
TEST_P(Attention, IsCausal) {
  const AttentionSpec a = make_spec(3, 1, 16);
  for (DType t : {DType::f32, DType::bf16, DType::f16}) {
    const Inputs in = make_inputs(a, 300, t, 5);
    const Inputs shorter{in.q.slice_rows(0, 130), in.k.slice_rows(0, 130), in.v.slice_rows(0, 130)};
    EXPECT_TRUE(same_bits(run(*ops, in, {{0, 300, -1}}, a).slice_rows(0, 130), run(*ops, shorter, {{0, 130, -1}}, a)));
  }
}

// A shared prefix gives the bits of the unshared computation, wherever the prefix ends relative to key blocks.
TEST_P(Attention, SharedPrefixEqualsUnshared) {
  const auto check = [&](DType t, std::int32_t window) {
    const AttentionSpec a = make_spec(4, 2, 22, window);
    for (std::int32_t prefix : {1, 63, 64, 95, 96, 97, 150, 192}) {
      const Inputs in = make_inputs(a, prefix + 60, t, 9);
      const std::vector<Segment> shared{{0, prefix, -1}, {prefix, prefix + 20, 0}, {prefix + 20, prefix + 60, 0}};
      const Tensor together = run(*ops, in, shared, a);
      for (const Segment& s : {shared[1], shared[2]}) {
        const auto join = [&](const Tensor& x) {
          Tensor y = Tensor::empty(x.dtype(), {prefix + s.end - s.begin, x.cols()});
          std::memcpy(y.raw(), x.raw(), x.slice_rows(0, prefix).bytes());
          const Tensor own = x.slice_rows(s.begin, s.end);
          std::memcpy(y.slice_rows(prefix, y.rows()).raw(), own.raw(), own.bytes());
          return y;
        };
        const Inputs alone{join(in.q), join(in.k), join(in.v)};
        const Tensor o = run(*ops, alone, {{0, static_cast<std::int32_t>(alone.q.rows()), -1}}, a);
        EXPECT_TRUE(same_bits(together.slice_rows(s.begin, s.end), o.slice_rows(prefix, o.rows()))) << prefix;
        EXPECT_TRUE(same_bits(together.slice_rows(0, prefix), o.slice_rows(0, prefix)));
      }
    }
  };
  for (DType t : {DType::f32, DType::bf16, DType::f16}) check(t, 0);
  check(DType::f32, 50);
  check(DType::bf16, 50);
}

// Decoding: the last rows alone have the bits that they have among all rows.
TEST_P(Attention, LastRowsAloneEqualThoseOfAll) {
  unsigned seed = 300;
  for (DType t : {DType::f32, DType::bf16, DType::f16}) {
    for (auto [h, k, c] : {std::tuple{1, 1, 8}, {6, 2, 10}, {9, 3, 11}, {4, 4, 64}}) {
      for (std::int32_t tokens : {2, 96, 97, 300}) {
        for (std::int32_t window : {0, 50}) {
          const AttentionSpec a = make_spec(h, k, c, window, seed % 5 == 0 ? 20.0f : 0.0f);
          const Inputs in = make_inputs(a, tokens, t, seed += 3);
          const std::vector<Segment> segments{{0, tokens, -1}};
          const Tensor all = run(*ops, in, segments, a);
          for (std::int32_t rows : {1, 2, 5, 31, 150}) {
            if (rows >= tokens) continue;
            const Inputs last{in.q.slice_rows(tokens - rows, tokens).clone(), in.k, in.v};
            EXPECT_TRUE(same_bits(run(*ops, last, segments, a), all.slice_rows(tokens - rows, tokens)))
                << name_of(t) << " H " << h << " C " << c << ", " << rows << " of " << tokens << ", window " << window;
          }
        }
      }
    }
  }
}

TEST_P(Attention, LastRowsOfSegmentsWithPrefixes) {
  const std::vector<Segment> segments{{0, 100, -1}, {100, 101, 0}, {101, 140, -1}, {140, 215, 0}};
  for (DType t : {DType::f32, DType::bf16}) {
    const AttentionSpec a = make_spec(6, 2, 10);
    const Inputs in = make_inputs(a, 215, t, 9);
    const Tensor all = run(*ops, in, segments, a);
    for (int rows : {0, 1, 10, 20, 75, 76, 90, 115, 200}) {
      const Inputs last{in.q.slice_rows(215 - rows, 215).clone(), in.k, in.v};
      EXPECT_TRUE(same_bits(run(*ops, last, segments, a), all.slice_rows(215 - rows, 215))) << rows;
    }
  }
}

TEST(AttentionThreads, DoNotChangeTheBitsOfDecoding) {
  const AttentionSpec a = make_spec(9, 3, 64);
  const Inputs in = make_inputs(a, 400, DType::bf16, 5), last{in.q.slice_rows(399, 400).clone(), in.k, in.v};
  const Tensor one = run(*make_cpu_ops(1), last, {{0, 400, -1}}, a);
  for (int threads : {2, 3, 8}) EXPECT_TRUE(same_bits(run(*make_cpu_ops(threads), last, {{0, 400, -1}}, a), one));
}

TEST_P(Attention, RefusesImpossibleSegments) {
  const AttentionSpec a = make_spec(1, 1, 8);
  const Inputs in = make_inputs(a, 20, DType::f32, 5);
  const std::vector<std::vector<Segment>> bad{
      {{0, 21, -1}}, {{5, 4, -1}}, {{-1, 4, -1}}, {{0, 10, 0}}, {{0, 5, -1}, {5, 10, 0}, {10, 20, 1}}};
  for (const auto& segments : bad) EXPECT_THROW(run(*ops, in, segments, a), Error);
  const Inputs more{random(DType::f32, {21, 8}, 1), in.k, in.v};  // rows than tokens
  EXPECT_THROW(run(*ops, more, {{0, 20, -1}}, a), Error);
}

}  // namespace
}  // namespace ptq::testing

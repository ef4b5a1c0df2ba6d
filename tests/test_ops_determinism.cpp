// Same inputs, same bits: for any number of threads, and for a row whatever else is in the batch.
#include "backends.h"
#include "compare.h"

#include <numeric>

namespace ptq::testing {
namespace {

// Everything that has a sum in it, for one set of inputs.
std::vector<Tensor> everything(Ops& ops, DType t) {
  std::vector<Tensor> out;
  const WeightFormat format = t == DType::f32    ? WeightFormat::f32
                              : t == DType::bf16 ? WeightFormat::bf16
                                                 : WeightFormat::f16;
  const Tensor x = random(t, {150, 96}, 1), w = random(DType::f32, {1200, 96}, 2), b = random(DType::f32, {1200}, 3);
  const WeightPtr packed = ops.pack(w, format);
  Tensor y = ops.empty(t, {150, 1200});
  ops.linear(y, x, *packed, b);
  out.push_back(y);
  Tensor l = ops.empty(DType::f32, {150, 1200});
  ops.logits(l, x, *packed, {});
  out.push_back(l);
  std::vector<Target> targets;
  for (std::int32_t i = 0; i < 150; ++i) targets.push_back({i, i * 8});
  out.push_back(Tensor::of(ops.token_logprobs(x, targets, *packed, {}), {150}));
  const Tensor y8 = ops.empty(t, {150, 1200});
  ops.linear_s8(y8, ops.quantize_rows(x), *ops.pack(w, WeightFormat::s8), b);
  out.push_back(y8);
  const Tensor o = ops.empty(t, {150, 96});
  const std::vector<Segment> segments{{0, 60, -1}, {60, 150, 0}};
  ops.attention(o, x, x, x, segments, {6, 6, 16, 0.25f, 0.0f, 0});
  out.push_back(o);
  const Tensor n = ops.empty(t, {150, 96});
  ops.norm(n, x, random(DType::f32, {1, 96}, 5), {}, {});
  out.push_back(n);

  Tensor h = Tensor::zeros(DType::f32, {96, 96});
  ops.gram(h, x);
  for (int i = 0; i < 96; ++i) {
    h.data<float>()[i * 97] += 10.0f;
    for (int j = 0; j < i; ++j) h.data<float>()[i * 96 + j] = 0.0f;  // not part of the result
  }
  out.push_back(h.clone());
  EXPECT_TRUE(ops.factor_inverse(h));
  out.push_back(h);
  const Tensor q = random(DType::f32, {130, 96}, 6);
  const GroupedCodes codes{ops.empty(DType::u8, {130, 96}), ops.empty(DType::f32, {130, 3}),
                           ops.empty(DType::f32, {130, 3})};
  const Tensor error = ops.empty(DType::f64, {130});
  ops.gptq_sweep(q, codes, error, h, {{}, 32, 32}, false, {});
  for (const Tensor& r : {q, codes.codes, codes.scales, error}) out.push_back(r);
  return out;
}

TEST(Determinism, ThreadsDoNotChangeBits) {
  for (DType t : {DType::f32, DType::bf16, DType::f16}) {
    const std::vector<Tensor> one = everything(*make_cpu_ops(1), t);
    for (int threads : {2, 3, 8}) {
      const std::vector<Tensor> many = everything(*make_cpu_ops(threads), t);
      for (std::size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(same_bits(one[i], many[i])) << i << ", " << threads;
    }
  }
}

TEST(Determinism, RerunsGiveTheSameBits) {
  const auto ops = make_cpu_ops(2);
  const std::vector<Tensor> first = everything(*ops, DType::bf16), second = everything(*ops, DType::bf16);
  for (std::size_t i = 0; i < first.size(); ++i) EXPECT_TRUE(same_bits(first[i], second[i])) << i;
}

class Batch : public OpsTest {};
PTQ_ON_ALL_BACKENDS(Batch);

// Any slice of the batch gives the rows of the whole batch, at many places relative to tiles of 64.
TEST_P(Batch, ProductsOfARowDoNotDependOnTheBatch) {
  for (DType t : {DType::f32, DType::bf16, DType::f16}) {
    const WeightFormat format = t == DType::f32    ? WeightFormat::f32
                                : t == DType::bf16 ? WeightFormat::bf16
                                                   : WeightFormat::f16;
    for (auto [n, width] : {std::pair<int, int>{37, 100}, {513, 64}, {576, 577}}) {
      const Tensor x = random(t, {200, width}, 1), w = random(DType::f32, {n, width}, 2);
      const WeightPtr packed = ops->pack(w, format), packed8 = ops->pack(w, WeightFormat::s8);
      const auto all = [&](const Tensor& rows) {
        const Tensor in = device(rows);
        const Tensor y = ops->empty(t, {rows.rows(), n}), y8 = ops->empty(t, {rows.rows(), n});
        ops->linear(y, in, *packed, {});
        ops->linear_s8(y8, ops->quantize_rows(in), *packed8, {});
        return std::pair{ops->to_host(y), ops->to_host(y8)};
      };
      const auto [y, y8] = all(x);
      for (auto [begin, end] : {std::pair<int, int>{0, 1},
                                {63, 64},
                                {64, 65},
                                {3, 11},
                                {3, 12},
                                {5, 69},
                                {10, 200},
                                {199, 200},
                                {1, 130}}) {
        const auto [part, part8] = all(x.slice_rows(begin, end).clone());
        EXPECT_TRUE(same_bits(part, y.slice_rows(begin, end))) << begin << " " << end;
        EXPECT_TRUE(same_bits(part8, y8.slice_rows(begin, end))) << begin << " " << end;
      }
    }
  }
}

TEST_P(Batch, NormsOfARowDoNotDependOnTheBatch) {
  for (DType t : {DType::f32, DType::bf16, DType::f16}) {
    for (int width : {40, 100, 577, 1280}) {
      for (NormKind kind : {NormKind::layer, NormKind::rms}) {
        const Tensor x = random(t, {70, width}, 1), w = random(DType::f32, {1, width}, 2);
        const auto normed = [&](const Tensor& rows) {
          const Tensor y = ops->empty(t, rows.shape());
          ops->norm(y, device(rows), device(w), {}, {kind});
          return ops->to_host(y);
        };
        const Tensor all = normed(x);
        for (auto [begin, end] : {std::pair<int, int>{0, 1}, {1, 2}, {33, 70}, {69, 70}})
          EXPECT_TRUE(same_bits(normed(x.slice_rows(begin, end).clone()), all.slice_rows(begin, end))) << begin;
      }
    }
  }
}

TEST_P(Batch, StatisticsGiveTheSameBitsAgain) {
  const Tensor x = device(random(DType::bf16, {300, 257}, 1)), y = device(random(DType::bf16, {300, 257}, 2));
  const auto moments = [&] {
    Tensor extremes = Tensor::empty(DType::f32, {2, 257});
    std::fill_n(extremes.data<float>(), 257, INFINITY);
    std::fill_n(extremes.data<float>() + 257, 257, -INFINITY);
    const ChannelSums sums{device(Tensor::zeros(DType::f64, {5, 257})), device(extremes)};
    ops->channel_sums(sums, x);
    return ops->to_host(sums.moments);
  };
  const Tensor first = moments();
  const double difference = ops->squared_difference(x, y);
  for (int again = 0; again < 3; ++again) {
    EXPECT_TRUE(same_bits(moments(), first));
    EXPECT_EQ(ops->squared_difference(x, y), difference);
  }
}

TEST_P(Batch, LogProbabilitiesDoNotDependOnOtherTargets) {
  const Tensor x = random(DType::f32, {150, 48}, 1);
  const WeightPtr w = ops->pack(random(DType::f32, {700, 48}, 2), WeightFormat::f32);
  std::vector<Target> targets;
  for (std::int32_t i = 0; i < 150; ++i) targets.push_back({i, i});
  const std::vector<double> all = ops->token_logprobs(device(x), targets, *w, {});
  for (std::size_t i : {0, 1, 63, 64, 100, 149}) {
    const std::vector<Target> one{targets[i]};
    EXPECT_EQ(ops->token_logprobs(device(x), one, *w, {})[0], all[i]);
  }
}

// A segment's rows are those of the segment alone, wherever it lies in the batch.
TEST_P(Batch, AttentionOfASegmentDoesNotDependOnTheBatch) {
  const AttentionSpec a{6, 2, 20, 0.2f, 0.0f, 0};
  for (DType t : {DType::f32, DType::bf16, DType::f16}) {
    const Tensor q = random(t, {333, 120}, 1), k = random(t, {333, 40}, 2), v = random(t, {333, 40}, 3);
    const std::vector<Segment> segments{{0, 7, -1}, {7, 8, -1}, {8, 150, -1}, {150, 333, -1}};
    const Tensor o = ops->empty(t, q.shape());
    ops->attention(o, device(q), device(k), device(v), segments, a);
    for (const Segment& s : segments) {
      const auto part = [&](const Tensor& x) { return device(x.slice_rows(s.begin, s.end).clone()); };
      const Tensor alone = ops->empty(t, {s.end - s.begin, 120});
      ops->attention(alone, part(q), part(k), part(v), std::vector<Segment>{{0, s.end - s.begin, -1}}, a);
      EXPECT_TRUE(same_bits(ops->to_host(alone), ops->to_host(o).slice_rows(s.begin, s.end)))
          << name_of(t) << ' ' << s.begin;
    }
  }
}

}  // namespace
}  // namespace ptq::testing

// round_scaled, gram_loss and clip_search against the specification written out (spec B.1, B.3, B.6).
#include "quant_reference.h"

#include <numeric>

namespace ptq::testing {
namespace {

using Awq = OpsTest;
PTQ_ON_ALL_BACKENDS(Awq);

const GridSpec asymmetric{4, false, false, GridRule::awq}, symmetric{4, true, false, GridRule::awq};

// Rows that a grid must survive: random, zero, one-signed, constant, a single weight, tiny.
Tensor awkward_rows(std::int64_t columns) {
  Tensor w = random(DType::f32, {70, columns}, 1);
  float* x = w.data<float>();
  for (std::int64_t i = 0; i < columns; ++i) {
    x[columns + i] = 0.0f;
    x[2 * columns + i] = 3.0f + std::fabs(x[2 * columns + i]);
    x[3 * columns + i] = -3.0f - std::fabs(x[3 * columns + i]);
    x[4 * columns + i] = 0.25f;
    x[5 * columns + i] = i == columns / 2 ? -0.3f : 0.0f;
    x[6 * columns + i] *= 1e-6f;
  }
  return w;
}

// llm-awq's quantizer in fp32, from its own formulas rather than host/grid.h.
std::vector<float> pseudo_quantize(const std::vector<float>& w, const GridSpec& spec) {
  const auto [lo, hi] = std::minmax_element(w.begin(), w.end());
  const auto top = static_cast<float>(spec.levels());
  float s, z, least = 0.0f;
  if (spec.symmetric) {
    least = -(top + 1.0f) / 2.0f;
    s = std::max(std::max(std::fabs(*lo), std::fabs(*hi)), 1e-5f) / (-least - 1.0f);
    z = 0.0f;
  } else {
    s = std::max(*hi - *lo, 1e-5f) / top;
    z = std::min(std::max(-std::nearbyint(*lo / s), 0.0f), top);
  }
  std::vector<float> out;
  for (const float x : w) {
    const float q = std::min(std::max(std::nearbyint(x / s) + z, least), least + top);
    out.push_back((q - z) * s);
  }
  return out;
}

TEST_P(Awq, RoundScaledFollowsTheDefinition) {
  for (std::int64_t columns : {1, 37, 64, 200, 256}) {
    Tensor t = random(DType::f32, {columns}, 9, Data::positive);
    t.data<float>()[0] = 1e-4f;
    for (std::int64_t group : {-1, 32, 128}) {
      for (const GridSpec& spec : {asymmetric, symmetric, GridSpec{3, false, false, GridRule::awq},
                                   GridSpec{8, true, false, GridRule::awq}, GridSpec{4, true, false, GridRule::gptq}}) {
        const Tensor w = awkward_rows(columns);
        const Guarded out(*ops, DType::f32, w.shape()), in_place(*ops, DType::f32, w.shape(), w);
        ops->round_scaled(out.tensor(), device(w), device(t), spec, group);
        ops->round_scaled(in_place.tensor(), in_place.tensor(), device(t), spec, group);
        Tensor want = w.clone();
        const std::int64_t width = group < 0 ? columns : group;
        for (std::int64_t r = 0; r < w.rows(); ++r) {
          for (std::int64_t c = 0; c < columns; c += width) {
            const std::int64_t n = std::min(width, columns - c);
            float* run = want.data<float>() + r * columns + c;
            std::vector<float> scaled;
            for (std::int64_t i = 0; i < n; ++i) scaled.push_back(run[i] * t.data<float>()[c + i]);
            std::vector<float> q;
            if (spec.rule == GridRule::awq) {
              q = pseudo_quantize(scaled, spec);
            } else {
              const auto [lo, hi] = std::minmax_element(scaled.begin(), scaled.end());
              const GridPoint g = grid_of_range(*lo, *hi, spec);
              for (const float x : scaled) q.push_back(value_of(code_of(x, g, static_cast<float>(spec.levels())), g));
            }
            for (std::int64_t i = 0; i < n; ++i) run[i] = q[static_cast<std::size_t>(i)] / t.data<float>()[c + i];
          }
        }
        const Tensor got = out.read();
        for (std::int64_t i = 0; i < got.numel(); ++i) {  // 0 and -0 are the same weight
          ASSERT_EQ(element(got, i), element(want, i)) << columns << " " << group << " " << spec.bits << " at " << i;
        }
        EXPECT_TRUE(same_bits(in_place.read(), got));
      }
    }
  }
}

// group_grids and round_to_grids know the rule too: the range does not have to hold 0, and saturates when it does not.
TEST_P(Awq, GridsOfTheSweepTakeRangesAsTheyAre) {
  for (std::int64_t group : {-1, 32}) {
    for (const GridSpec& spec : {asymmetric, symmetric}) {
      const Tensor w = awkward_rows(128), g_idx = group_index(128, group),
                   ones = Tensor::of<float>(std::vector<float>(128, 1.0f), {128});
      const std::int64_t groups = groups_of(128, group);
      const Guarded scales(*ops, DType::f32, {70, groups}), zeros(*ops, DType::f32, {70, groups});
      ops->group_grids(scales.tensor(), zeros.tensor(), device(w), spec, group);
      const Guarded q(*ops, DType::f32, w.shape(), w), codes(*ops, DType::u8, w.shape()),
          scaled(*ops, DType::f32, w.shape());
      ops->round_to_grids(q.tensor(), codes.tensor(), scales.tensor(), zeros.tensor(), device(g_idx), spec);
      ops->round_scaled(scaled.tensor(), device(w), device(ones), spec, group);
      const Tensor a = q.read(), b = scaled.read(), z = zeros.read();
      for (std::int64_t i = 0; i < a.numel(); ++i) ASSERT_EQ(element(a, i), element(b, i)) << i;
      if (!spec.symmetric) {
        EXPECT_EQ(element(z, 2 * groups), 0.0);   // all weights above 3: the zero point is clamped
        EXPECT_EQ(element(z, 3 * groups), 15.0);  // all weights below -3
        EXPECT_LT(element(a, 2 * 128), element(w, 2 * 128));
      }
    }
  }
}

// A searched range may only lower the error that is searched, whatever the rule.
TEST_P(Awq, MseSearchKeepsToTheRule) {
  const Tensor w = awkward_rows(64);
  for (const GridSpec& plain : {asymmetric, symmetric}) {
    GridSpec searched = plain;
    searched.mse = true;
    const auto errors = [&](const GridSpec& spec) {
      const Tensor s = ops->empty(DType::f32, {70, 2}), z = ops->empty(DType::f32, {70, 2});
      ops->group_grids(s, z, device(w), spec, 32);
      const Guarded q(*ops, DType::f32, w.shape(), w), codes(*ops, DType::u8, w.shape());
      ops->round_to_grids(q.tensor(), codes.tensor(), s, z, device(group_index(64, 32)), spec);
      const Tensor value = q.read();
      std::vector<double> e(70);
      for (std::int64_t i = 0; i < w.numel(); ++i) {
        e[static_cast<std::size_t>(i / 64)] += std::pow(std::fabs(element(value, i) - element(w, i)), 2.4);
      }
      return e;
    };
    const std::vector<double> a = errors(plain), b = errors(searched);
    for (std::size_t r = 0; r < 70; ++r) EXPECT_LE(b[r], a[r] * (1 + 1e-5)) << r;
    EXPECT_LT(std::accumulate(b.begin(), b.end(), 0.0), std::accumulate(a.begin(), a.end(), 0.0));
  }
}

// X^T X in fp32 with an unusable lower triangle.
Tensor upper_gram(const Tensor& x) {
  const std::int64_t n = x.cols(), tokens = x.rows();
  Tensor g = Tensor::zeros(DType::f32, {n, n});
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = 0.0;
      for (std::int64_t t = 0; t < tokens; ++t) sum += element(x, t * n + i) * element(x, t * n + j);
      g.data<float>()[i * n + j] = j < i ? NAN : static_cast<float>(sum);
    }
  }
  return g;
}

struct Form {
  double value = 0.0, magnitude = 0.0;
};

// d^T G d of one row from the upper triangle.
Form form(const float* d, const Tensor& g) {
  Form f;
  const std::int64_t n = g.cols();
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = i; j < n; ++j) {
      const double p = (i == j ? 1.0 : 2.0) * d[i] * element(g, i * n + j) * d[j];
      f.value += p;
      f.magnitude += std::fabs(p);
    }
  }
  return f;
}

TEST_P(Awq, GramLossIsTheSquaredErrorOfTheLinear) {
  for (std::int64_t n : {1, 7, 63, 64, 65, 129, 256, 257, 321}) {
    for (std::int64_t rows : {1, 5, 48, 49, 101}) {
      const Tensor x = random(DType::f32, {40, n}, static_cast<unsigned>(n)), g = upper_gram(x);
      const Tensor d = random(DType::f32, {rows, n}, static_cast<unsigned>(rows));
      double want = 0.0, magnitude = 0.0, direct = 0.0;
      for (std::int64_t r = 0; r < rows; ++r) {
        const Form f = form(d.data<float>() + r * n, g);
        want += f.value;
        magnitude += f.magnitude;
        for (std::int64_t t = 0; t < 40; ++t) {
          double y = 0.0;
          for (std::int64_t i = 0; i < n; ++i) y += element(x, t * n + i) * element(d, r * n + i);
          direct += y * y;
        }
      }
      const double got = ops->gram_loss(device(d), device(g));
      const double bound = 2.0 * (std::sqrt(static_cast<double>(n)) + 2.0) * unit * magnitude;
      EXPECT_NEAR(got, want, bound) << n << " " << rows;
      EXPECT_NEAR(got, direct, bound + unit * magnitude) << n << " " << rows;  // G itself is rounded
    }
  }
}

// Around tiles of 128 columns and runs of 1024 rows, D at any alignment: a slice that begins at an odd row.
TEST_P(Awq, GramLossAtEdgesOfTiles) {
  for (auto [rows, n] :
       {std::pair<int, int>{15, 127}, {17, 128}, {33, 130}, {0, 9}, {1023, 6}, {1024, 5}, {1025, 8}, {3, 1025}}) {
    const Tensor x = random(DType::f32, {5, n}, static_cast<unsigned>(n)), g = upper_gram(x);
    const Tensor all = random(DType::f32, {rows + 1, n}, static_cast<unsigned>(rows));
    double want = 0.0, magnitude = 0.0;
    for (std::int64_t r = 1; r <= rows; ++r) {
      const Form f = form(all.data<float>() + r * n, g);
      want += f.value;
      magnitude += f.magnitude;
    }
    const double got = ops->gram_loss(device(all).slice_rows(1, rows + 1), device(g));
    EXPECT_NEAR(got, want,
                2.0 * (std::sqrt(static_cast<double>(std::max(n, std::min(rows, 1024)))) + 2.0) * unit * magnitude)
        << rows << " x " << n;
  }
}

// The clips of a row's group and the double-precision error of each on the same rounded weights.
struct Candidate {
  float clip;
  double error, slack;
};

std::vector<Candidate> candidates(const std::vector<float>& w, const Tensor& x, std::int64_t first,
                                  const GridSpec& spec) {
  const std::int64_t tokens = x.rows();
  float absmax = 0.0f;
  for (const float v : w) absmax = std::max(absmax, std::fabs(v));
  std::vector<Candidate> all;
  for (int i = 0; i < 10; ++i) {
    const float c = absmax * static_cast<float>(1.0 - i / 20.0);
    std::vector<float> clamped;
    for (const float v : w) clamped.push_back(std::min(std::max(v, -c), c));
    const std::vector<float> q = pseudo_quantize(clamped, spec);
    Candidate k{c, 0.0, 0.0};
    for (std::int64_t t = 0; t < tokens; ++t) {
      double y = 0.0, magnitude = 0.0;
      for (std::size_t j = 0; j < w.size(); ++j) {
        const double p =
            element(x, t * x.cols() + first + static_cast<std::int64_t>(j)) * static_cast<double>(q[j] - w[j]);
        y += p;
        magnitude += std::fabs(p);
      }
      k.error += y * y;
      k.slack += magnitude * magnitude;  // sum over i, j of |d_i| |x_i| |x_j| |d_j|, whatever the order of sums
    }
    k.slack *= 2.0 * (std::sqrt(static_cast<double>(w.size() + static_cast<std::size_t>(tokens))) + 2.0) * unit;
    all.push_back(k);
  }
  return all;
}

// The chosen clip is one of the ten, and no other is better by more than rounding explains.
void expect_clips(const Tensor& clip, const Tensor& w, const Tensor& x, const GridSpec& spec, std::int64_t group) {
  const std::int64_t columns = w.cols(), groups = columns / group;
  std::int64_t decided = 0, clipped = 0;
  for (std::int64_t r = 0; r < w.rows(); ++r) {
    for (std::int64_t g = 0; g < groups; ++g) {
      const float* run = w.data<float>() + r * columns + g * group;
      const auto all = candidates({run, run + group}, x, g * group, spec);
      const float chosen = clip.data<float>()[r * groups + g];
      const auto found = std::find_if(all.begin(), all.end(), [&](const Candidate& k) { return k.clip == chosen; });
      ASSERT_NE(found, all.end()) << chosen;
      bool clear = true;
      for (const Candidate& k : all) {
        EXPECT_LE(found->error - k.error, found->slack + k.slack) << r << " " << g;
        clear = clear && (&k == &*found || k.error - found->error > found->slack + k.slack);
      }
      decided += clear ? 1 : 0;
      clipped += found == all.begin() ? 0 : 1;
    }
  }
  EXPECT_GT(decided, w.rows() * groups * 8 / 10);  // the bound is narrow enough to tell candidates apart
  EXPECT_GT(clipped, w.rows() * groups / 4);
}

TEST_P(Awq, ClipSearchFindsTheLeastError) {
  struct Case {
    std::int64_t rows, columns, group, tokens;
  };
  // Groups narrower and wider than there are tokens; tails of every tile.
  for (const Case& c : {Case{70, 256, 128, 200}, Case{5, 96, 32, 37}, Case{25, 65, 65, 131}, Case{49, 128, -1, 40},
                        Case{200, 64, 64, 64}, Case{9, 320, 320, 7}, Case{3, 7, 1, 5}, Case{13, 140, 140, 150},
                        Case{12, 262, 131, 129}}) {
    for (const GridSpec& spec : {asymmetric, symmetric, GridSpec{3, false, false, GridRule::awq}}) {
      const std::int64_t group = c.group < 0 ? c.columns : c.group;
      const Tensor w = random(DType::f32, {c.rows, c.columns}, 41), x = random(DType::f32, {c.tokens, c.columns}, 42);
      const Guarded clip(*ops, DType::f32, {c.rows, c.columns / group});
      ops->clip_search(clip.tensor(), device(w), device(x), spec, c.group);
      if (group > 1) {
        expect_clips(clip.read(), w, x, spec, group);
      } else {
        clip.read();
      }
    }
  }
}

TEST_P(Awq, EqualErrorsMeanNoClipping) {
  const Tensor w = awkward_rows(64);
  const Guarded clip(*ops, DType::f32, {70, 2});
  ops->clip_search(clip.tensor(), device(w), device(Tensor::zeros(DType::f32, {50, 64})), asymmetric, 32);
  const Tensor got = clip.read();
  for (std::int64_t i = 0; i < 140; ++i) {
    const float* run = w.data<float>() + i * 32;
    float absmax = 0.0f;
    for (int c = 0; c < 32; ++c) absmax = std::max(absmax, std::fabs(run[c]));
    EXPECT_EQ(element(got, i), absmax) << i;
  }
}

TEST(AwqOnCpu, ThreadsDoNotChangeBits) {
  const Tensor w = random(DType::f32, {401, 384}, 51), x = random(DType::f32, {530, 384}, 52);
  const Tensor t = random(DType::f32, {384}, 53, Data::positive), g = upper_gram(x);
  const auto one = make_cpu_ops(1);
  const auto all = [&](Ops& ops) {
    const Tensor clip = ops.empty(DType::f32, {401, 3}), row_clip = ops.empty(DType::f32, {401, 1});
    const Tensor q = ops.empty(DType::f32, {401, 384});
    ops.clip_search(clip, w, x, asymmetric, 128);
    ops.clip_search(row_clip, w, x.slice_rows(0, 100), asymmetric, -1);
    ops.round_scaled(q, w, t, asymmetric, 128);
    return std::vector<Tensor>{clip, row_clip, q, Tensor::of<double>({ops.gram_loss(w, g)}, {1})};
  };
  const std::vector<Tensor> want = all(*one);
  for (int threads : {2, 3, 8}) {
    const std::vector<Tensor> got = all(*make_cpu_ops(threads));
    for (std::size_t i = 0; i < want.size(); ++i) EXPECT_TRUE(same_bits(got[i], want[i])) << i;
  }
}

}  // namespace
}  // namespace ptq::testing

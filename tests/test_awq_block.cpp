// AWQ on one block without references: losses against runs of the whole block, what is searched, clipped and sampled.
#include "quant/awq_block.h"

#include "awq_models.h"
#include "quant/awq_inputs.h"
#include "quant/rtn.h"
#include "quant_inputs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

namespace ptq {
namespace {

struct Found {
  Transformer model;
  std::vector<AwqBlock> blocks;
  std::vector<std::vector<Stream>> entered;  // per layer, as the walk handed them out (h copied)

  Found(const std::string& name, const QuantSpec& spec) : model(files_of(name), ops(), DType::f32) {
    Seconds seconds;
    const auto visit = [&](int layer, const Block& block, std::span<Stream> streams) {
      entered.emplace_back(streams.begin(), streams.end());
      for (Stream& s : entered.back()) s.h = s.h.clone();
      blocks.push_back(awq_block(model, spec, layer, block, streams, seconds));
    };
    full_precision_walk(model, windows(model.config().vocab), 48, visit, seconds);
  }

  // The streams after `last` stage of layer 0 through a block of these weights.
  std::vector<Tensor> run(const BlockWeights& weights, Stage last) const {
    const Block block = model.make_block(weights, 0);
    std::vector<Tensor> out;
    for (const Stream& entering : entered[0]) {
      Stream s = entering;
      s.h = s.h.clone();
      model.enter(s, block);
      for (Stage stage : all_stages) {
        model.advance(s, 0, block, stage);
        if (stage == last) break;
      }
      out.push_back(s.h);
    }
    return out;
  }

  // Mean squared change of the residual stream when the group's linears become Q(W diag t) diag(t)^-1.
  double loss(const AwqGroup& group, std::span<const float> t, const QuantSpec& spec, Stage last) const {
    const BlockWeights original = load_block_weights(model.files(), 0);
    BlockWeights changed = load_block_weights(model.files(), 0);
    for (LinearRole role : group.roles) {
      Tensor& w = changed[role];
      const auto each = [&](auto&& change) {
        for (std::int64_t i = 0; i < w.numel(); ++i)
          change(w.data<float>()[i], t[static_cast<std::size_t>(i % w.cols())]);
      };
      each([](float& x, float scale) { x *= scale; });
      w = quantize_rtn(ops(), w, spec).q;
      each([](float& x, float scale) { x /= scale; });
    }
    const auto before = run(original, last), after = run(changed, last);
    double sum = 0, count = 0;
    for (std::size_t i = 0; i < before.size(); ++i) {
      for (std::int64_t k = 0; k < before[i].numel(); ++k) {
        const double d = static_cast<double>(before[i].data<float>()[k]) - after[i].data<float>()[k];
        sum += d * d;
      }
      count += static_cast<double>(before[i].numel());
    }
    return sum / count;
  }
};

// Every group whose module's output is added to the residual stream as it is.
TEST(AwqBlock, LossesAreMeanSquaredChangesOfTheBlock) {
  for (const auto& [name, size] : {std::pair{"llama-gqa", 16}, {"opt", 16}, {"cohere", 8}}) {
    SCOPED_TRACE(name);
    const QuantSpec spec = awq_spec(size);
    const Found found(name, spec);
    int compared = 0;
    for (const AwqGroup& group : found.blocks[0].groups) {
      const bool parallel = found.model.config().block == BlockKind::parallel;
      if (group.stage == Stage::gate_up && !found.model.config().gated) continue;  // fc1 alone, before ReLU
      const bool attention = group.stage == Stage::qkv || group.stage == Stage::o;
      const Stage last = attention && !parallel ? Stage::o : Stage::down;
      for (int i : {0, 7, 19}) {
        const auto t = awq_scales(group.statistics, awq_ratio(i));
        const double want = found.loss(group, t, spec, last), got = group.search.loss[static_cast<std::size_t>(i)];
        // fp32 subtraction in the residual stream: differences of 1e-2 to values of 1 keep four digits.
        EXPECT_NEAR(got, want, 1e-3 * want) << name_of(group.stage) << " ratio " << i;
      }
      ++compared;
    }
    EXPECT_GE(compared, 3);
  }
}

TEST(AwqBlock, TheChosenRatioIsNotWorseThanRoundingToNearest) {
  for (const auto& [name, size] : {std::pair{"llama-gqa", 16}, {"opt", 16}, {"cohere", 8}}) {
    const Found found(name, awq_spec(size));
    for (const AwqBlock& block : found.blocks) {
      for (const AwqGroup& group : block.groups) {
        const auto& loss = group.search.loss;
        const auto best = std::min_element(loss.begin(), loss.end());
        EXPECT_LE(*best, loss[0]);
        EXPECT_EQ(group.search.best_ratio, awq_ratio(static_cast<int>(best - loss.begin())));
      }
    }
  }
}

TEST(AwqBlock, GroupsFollowTheFamily) {
  const auto stages = [](const std::string& name, std::int64_t size) {
    const Found found(name, awq_spec(size));
    std::vector<Stage> out;
    for (const AwqGroup& group : found.blocks[0].groups) out.push_back(group.stage);
    return out;
  };
  EXPECT_EQ(stages("llama-gqa", 16), (std::vector{Stage::qkv, Stage::gate_up, Stage::down}));  // heads share values
  EXPECT_EQ(stages("opt", 16), (std::vector{Stage::qkv, Stage::o, Stage::gate_up, Stage::down}));
  EXPECT_EQ(stages("cohere", 8), (std::vector{Stage::qkv, Stage::o, Stage::down}));
}

TEST(AwqBlock, ClipsAllButQueriesAndKeysAndNothingIfTold) {
  QuantSpec spec = awq_spec(16);
  for (const bool clip : {true, false}) {
    spec.clip = clip;
    const Found found("llama-gqa", spec);
    for (LinearRole role : all_linear_roles) {
      const Tensor& limits = found.blocks[0].clip[static_cast<std::size_t>(role)];
      const bool expected = clip && role != LinearRole::q && role != LinearRole::k;
      ASSERT_EQ(static_cast<bool>(limits), expected);
      if (!limits) continue;
      const Tensor& w = found.blocks[0].weights[role];
      EXPECT_EQ(limits.shape(), (Shape{w.rows(), w.cols() / 16}));
      for (std::int64_t g = 0; g < limits.numel(); ++g) {
        float largest = 0;
        for (std::int64_t k = 0; k < 16; ++k) largest = std::max(largest, std::fabs(w.data<float>()[g * 16 + k]));
        EXPECT_LE(limits.data<float>()[g], largest);
        EXPECT_GE(limits.data<float>()[g], 0.549f * largest);
      }
    }
  }
}

TEST(AwqBlock, SamplesEveryStepthTokenAcrossChunks) {
  const Transformer model(files_of("llama-gqa"), ops(), DType::f32);
  const Block block = model.load_block(0);
  std::vector<Window> many(30, Window(40, 3));
  for (std::size_t i = 0; i < many.size(); ++i) many[i][0] = static_cast<std::int32_t>(i);
  const auto inputs = [&](std::int64_t chunk) {
    BlockInputs out;
    Seconds seconds;
    const auto visit = [&](int layer, const Block& b, std::span<Stream> streams) {
      if (layer == 0)
        out = observe_block(model, layer, b, streams, true, seconds);
      else
        for (Stream& s : streams)
          for (Stage stage : all_stages) model.advance(s, layer, b, stage);
    };
    full_precision_walk(model, many, chunk, visit, seconds);
    return out;
  };
  const BlockInputs one = inputs(100000), pieces = inputs(70);
  EXPECT_EQ(one.tokens, 1200);
  for (std::size_t stage = 0; stage < all_stages.size(); ++stage) {
    EXPECT_EQ(one.stage[stage].samples.rows(), 600);  // every second of 1200
    EXPECT_TRUE(std::memcmp(one.stage[stage].samples.raw(), pieces.stage[stage].samples.raw(),
                            one.stage[stage].samples.bytes()) == 0);
    EXPECT_EQ(one.stage[stage].a, pieces.stage[stage].a);
  }
}

TEST(AwqBlock, ResultsDoNotDependOnTheNumberOfThreads) {
  const auto found = [](int threads) {
    const auto own = make_cpu_ops(threads);
    const Transformer model(files_of("opt"), *own, DType::f32);
    std::vector<AwqBlock> blocks;
    Seconds seconds;
    const auto visit = [&](int layer, const Block& block, std::span<Stream> streams) {
      blocks.push_back(awq_block(model, awq_spec(16), layer, block, streams, seconds));
    };
    full_precision_walk(model, windows(model.config().vocab), 4096, visit, seconds);
    return blocks;
  };
  const auto one = found(1), three = found(3);
  for (std::size_t layer = 0; layer < one.size(); ++layer) {
    for (std::size_t g = 0; g < one[layer].groups.size(); ++g) {
      EXPECT_EQ(one[layer].groups[g].search.loss, three[layer].groups[g].search.loss);
    }
    for (std::size_t role = 0; role < all_linear_roles.size(); ++role) {
      const Tensor &a = one[layer].clip[role], &b = three[layer].clip[role];
      ASSERT_EQ(static_cast<bool>(a), static_cast<bool>(b));
      if (a) {
        EXPECT_EQ(std::memcmp(a.raw(), b.raw(), a.bytes()), 0);
      }
    }
  }
}

}  // namespace
}  // namespace ptq

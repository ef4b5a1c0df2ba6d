// AWQ on whole models without references: what is refused, what the sink gets, dead channels.
#include "quant/awq.h"

#include "awq_models.h"
#include "quant/awq_block.h"
#include "quant_inputs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

namespace ptq {
namespace {

TEST(Awq, AGroupThatDoesNotDivideIsRefusedBeforeAnyWork) {
  const Transformer model(files_of("llama-gqa"), ops(), DType::f32);
  QuantizeReport report;
  const QuantSink sink{[](int, LinearRole, const QuantizedMatrix&) { FAIL(); },
                       [](int, const BlockWeights&) { FAIL(); }};
  try {
    quantize_awq(model, awq_spec(48), windows(131), sink, report,
                 [](const std::string&, std::int64_t, std::int64_t) { FAIL(); });
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::usage);
    EXPECT_STREQ(e.what(),
                 "model.layers.0.mlp.down_proj has 80 input columns, which AWQ cannot cut into groups of 48; choose a "
                 "--group that divides them");
  }
  EXPECT_EQ(report.seconds.total(), 0.0);
}

// At 8 bits what comes out of the sink is the old function: linears, norms and biases fit together.
TEST(Awq, SinksGetLinearsAndThenNormsOfTheSameFunction) {
  for (const auto& [name, size] : {std::pair{"llama-gqa", 16}, {"opt", 16}, {"cohere", 8}}) {
    SCOPED_TRACE(name);
    QuantSpec spec = awq_spec(size);
    spec.bits = 8;
    spec.clip = false;
    const auto files = files_of(name);
    const Transformer model(files, ops(), DType::f32);
    std::vector<BlockWeights> blocks;
    BlockWeights current;
    const QuantSink sink{[&](int layer, LinearRole role, const QuantizedMatrix& m) {
                           EXPECT_EQ(static_cast<std::size_t>(layer), blocks.size());
                           current[role] = m.q.clone();
                         },
                         [&](int layer, const BlockWeights& folded) {
                           EXPECT_EQ(static_cast<std::size_t>(layer), blocks.size());
                           for (LinearRole role : all_linear_roles) EXPECT_FALSE(folded[role]);
                           current.norm_weight = folded.norm_weight;
                           current.norm_bias = folded.norm_bias;
                           current.bias = folded.bias;
                           blocks.push_back(std::exchange(current, {}));
                         }};
    QuantizeReport report;
    const auto calibration = windows(model.config().vocab);
    std::int64_t steps = 0;
    quantize_awq(model, spec, calibration, sink, report,
                 [&](const std::string&, std::int64_t done, std::int64_t total) {
                   EXPECT_EQ(done, ++steps);
                   EXPECT_EQ(total, 8);
                 });
    EXPECT_EQ(steps, 8);
    EXPECT_EQ(blocks.size(), 2u);
    EXPECT_EQ(report.linears.size(), model.config().gated ? 14u : 12u);
    EXPECT_GT(report.seconds.search, 0.0);
    for (const AwqSearch& search : report.awq) {
      EXPECT_EQ(search.loss.size(), 20u);
      EXPECT_FALSE(search.prev.empty());
    }

    Batch batch;
    batch.append(calibration[1]);
    const auto output = [&](bool quantized) {
      Stream s = model.embed(batch);
      for (int layer = 0; layer < 2; ++layer) {
        const Block block =
            quantized ? model.make_block(blocks[static_cast<std::size_t>(layer)], layer) : model.load_block(layer);
        model.enter(s, block);
        for (Stage stage : all_stages) model.advance(s, layer, block, stage);
      }
      return s.h;
    };
    EXPECT_LE(relative_error(output(false), output(true)), 1e-3);
  }
}

TEST(Awq, DeadChannelsAreCountedAndKeptWithPolicyRtn) {
  // OPT's fc2 behind ReLU: some channels never fire on one short window.
  const auto files = files_of("opt");
  const Transformer model(files, ops(), DType::f32);
  const std::vector<Window> one{Window{5}};
  QuantSpec spec = awq_spec(16);
  std::array<double, 2> zeroed{};
  for (const DeadPolicy dead : {DeadPolicy::zero, DeadPolicy::rtn}) {
    spec.dead = dead;
    Seconds seconds;
    full_precision_walk(
        model, one, 4096,
        [&](int layer, const Block& block, std::span<Stream> streams) {
          const AwqBlock found = awq_block(model, spec, layer, block, streams, seconds);
          const AwqGroup& down = found.groups.back();
          ASSERT_EQ(down.stage, Stage::down);
          EXPECT_GT(found.dead_columns[3], 10);
          EXPECT_LT(found.dead_columns[3], 96);
          EXPECT_EQ(found.dead_columns[3], std::count(down.statistics.a.begin(), down.statistics.a.end(), 0.0f));
          for (std::size_t k = 0; k < down.statistics.a.size(); ++k) {
            if (down.statistics.a[k] == 0.0f && dead == DeadPolicy::rtn) {
              EXPECT_EQ(down.search.scales[k], 1.0f);
            }
          }
          // At ratio 1/2, whatever was chosen: how many dead weights round to 0?
          const auto t = awq_scales(down.statistics, 0.5);
          const Tensor w = files->linear_weight(layer, LinearRole::down, DType::f32);
          Tensor q = Tensor::empty(DType::f32, w.shape());
          ops().round_scaled(q, w, Tensor::of(t, {std::ssize(t)}), spec.grid(), spec.group);
          for (std::int64_t i = 0; i < q.numel(); ++i) {
            const bool is_dead = down.statistics.a[static_cast<std::size_t>(i % q.cols())] == 0.0f;
            zeroed[static_cast<std::size_t>(dead)] += is_dead && q.data<float>()[i] == 0.0f;
          }
        },
        seconds);
  }
  EXPECT_GT(zeroed[0], 5 * zeroed[1]);
}

TEST(Awq, NonFiniteActivationsAreExit76NamingTheStage) {
  const auto files = files_of("llama-gqa");
  const Transformer model(files, ops(), DType::f32);
  Seconds seconds;
  try {
    full_precision_walk(
        model, windows(131), 4096,
        [&](int layer, const Block& block, std::span<Stream> streams) {
          streams[0].x = streams[0].x.clone();
          streams[0].x.data<float>()[5] = INFINITY;
          awq_block(model, awq_spec(16), layer, block, streams, seconds);
        },
        seconds);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::numerics);
    EXPECT_NE(std::string(e.what()).find("layer 0, input of qkv: channel 5"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace ptq

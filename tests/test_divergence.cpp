// KL divergence between two models' predictions: the formula, what it is a mean of, and that batching does not matter.
#include "device.h"
#include "eval/divergence.h"
#include "temporary.h"
#include "tiny_checkpoint.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace ptq {
namespace {

namespace fs = std::filesystem;

// KL from the definition in long double, logits straight through the exponential.
double direct_kl(std::span<const float> p, std::span<const float> q) {
  long double zp = 0, zq = 0, sum = 0;
  for (float x : p) zp += std::exp(static_cast<long double>(x));
  for (float x : q) zq += std::exp(static_cast<long double>(x));
  for (std::size_t i = 0; i < p.size(); ++i) {
    const long double a = std::exp(static_cast<long double>(p[i])) / zp,
                      b = std::exp(static_cast<long double>(q[i])) / zq;
    sum += a * std::log(a / b);
  }
  return static_cast<double>(sum);
}

TEST(Kl, EqualsTheDefinition) {
  const Tensor p = random_tensor({300}, 1), q = random_tensor({300}, 2);
  const double want = direct_kl(p.span<float>(), q.span<float>());
  EXPECT_NEAR(kl_of_logits(p.span<float>(), q.span<float>()), want, 1e-12 * want);
  EXPECT_GT(want, 0.1);
  EXPECT_EQ(kl_of_logits(p.span<float>(), p.span<float>()), 0.0);
}

TEST(Kl, IsAboutDistributionsNotLogits) {
  const Tensor p = random_tensor({50}, 1);
  Tensor shifted = p.clone();
  for (float& x : shifted.span<float>()) x += 64.0f;  // a power of two: what fp32 keeps of the rest is nearly all
  EXPECT_NEAR(kl_of_logits(p.span<float>(), shifted.span<float>()), 0.0, 1e-8);
  // Far apart: no overflow, and a probability of 0 contributes nothing.
  const std::vector<float> sure{2000.0f, 0.0f}, even{0.0f, 0.0f};
  EXPECT_NEAR(kl_of_logits(sure, even), std::log(2.0), 1e-12);
  EXPECT_NEAR(kl_of_logits(even, sure), 1000.0 - std::log(2.0), 1e-9);
}

class DivergenceTest : public ::testing::Test {
 protected:
  // The tiny Llama, and the same with every weight moved a little.
  void SetUp() override {
    auto tensors = tiny_tensors();
    write("original", tiny_config(), tensors);
    unsigned seed = 100;
    for (auto& [name, t] : tensors) {
      const Tensor noise = random_tensor(t.shape(), ++seed);
      t = t.clone();
      for (std::int64_t i = 0; i < t.numel(); ++i) t.data<float>()[i] += 0.05f * noise.data<float>()[i];
    }
    write("moved", tiny_config(), tensors);
    for (int i = 0; i < 200; ++i) ids_.push_back((i * i * 7 + i) % 40);
  }

  void write(const std::string& name, const nlohmann::json& config, const std::map<std::string, Tensor>& tensors) {
    fs::create_directories(directory_ / name);
    put(directory_ / name / "config.json", config.dump());
    write_safetensors(directory_ / name / "model.safetensors", tensors);
  }

  std::unique_ptr<Transformer> model(const std::string& name) {
    auto m = std::make_unique<Transformer>(std::make_shared<const ModelFiles>(ModelFiles::open(directory_ / name)),
                                           *ops_, DType::f32);
    m->load_all();
    return m;
  }

  const TemporaryDirectory directory_;
  const std::unique_ptr<Ops> ops_ = make_test_ops();
  std::vector<std::int32_t> ids_;
};

TEST_F(DivergenceTest, OfAModelWithItselfIsZero) {
  const auto original = model("original");
  const Divergence d = divergence(*original, *original, ids_, {.seqlen = 30});
  EXPECT_EQ(d.kld.value, 0.0);
  EXPECT_EQ(d.kld.stderr_, 0.0);
  EXPECT_EQ(d.p99, 0.0);
  EXPECT_EQ(d.top1_agreement, 1.0);
  EXPECT_EQ(d.kld.n, 6);
  EXPECT_EQ(d.tokens, 6 * 29);
}

TEST_F(DivergenceTest, EqualsTheMeanOverPredictedTokens) {
  const auto original = model("original"), moved = model("moved");
  constexpr std::int64_t seqlen = 30;
  std::vector<double> all, window;
  std::int64_t agree = 0;
  for (std::size_t w = 0; w < 4; ++w) {
    Batch batch;
    batch.append(std::span(ids_).subspan(w * seqlen, seqlen));
    const Tensor p = ops_->to_host(original->logits(original->forward(batch))),
                 q = ops_->to_host(moved->logits(moved->forward(batch)));
    double sum = 0;
    for (std::int64_t t = 0; t + 1 < seqlen; ++t) {
      const auto a = p.slice_rows(t, t + 1).span<float>(), b = q.slice_rows(t, t + 1).span<float>();
      all.push_back(direct_kl(a, b));
      sum += all.back();
      agree += std::max_element(a.begin(), a.end()) - a.begin() == std::max_element(b.begin(), b.end()) - b.begin();
    }
    window.push_back(sum / (seqlen - 1));
  }
  const Divergence d = divergence(*moved, *original, ids_, {.seqlen = seqlen, .windows = 4});
  const Metric want = mean_stderr(window);
  EXPECT_NEAR(d.kld.value, want.value, 1e-9 * want.value);
  EXPECT_NEAR(d.kld.stderr_, want.stderr_, 1e-9 * want.value);
  EXPECT_GT(d.kld.value, 1e-4);
  EXPECT_EQ(d.top1_agreement, static_cast<double>(agree) / static_cast<double>(all.size()));
  std::sort(all.begin(), all.end());
  EXPECT_NEAR(d.p99, all[114], 1e-9);  // the 115th of 116: 99 % of them are 114.84

  const nlohmann::json json = divergence_json(d);
  for (const char* key : {"value", "stderr", "top1_agreement", "p99", "tokens", "windows"})
    EXPECT_TRUE(json.contains(key));

  const Divergence reverse = divergence(*original, *moved, ids_, {.seqlen = seqlen, .windows = 4});
  EXPECT_NE(reverse.kld.value, d.kld.value);  // p is the one it is against
}

TEST_F(DivergenceTest, DoesNotDependOnBatches) {
  const auto original = model("original"), moved = model("moved");
  const Divergence one = divergence(*moved, *original, ids_, {.seqlen = 20, .batch_tokens = 1});
  const Divergence all = divergence(*moved, *original, ids_, {.seqlen = 20, .batch_tokens = 4096});
  EXPECT_EQ(one.window_mean, all.window_mean);
  EXPECT_EQ(one.p99, all.p99);
}

TEST_F(DivergenceTest, RefusesOtherVocabulariesAndShortTexts) {
  auto config = tiny_config();
  config["vocab_size"] = 30;
  auto tensors = tiny_tensors();
  for (const char* name : {"model.embed_tokens.weight", "lm_head.weight"})
    tensors[name] = tensors[name].slice_rows(0, 30);
  write("other", config, tensors);
  const auto original = model("original"), other = model("other");
  expect_error(Exit::data, "--against", [&] { divergence(*original, *other, ids_, {.seqlen = 20}); });
  expect_error(Exit::data, "fewer than one window", [&] { divergence(*original, *original, ids_, {.seqlen = 201}); });
  expect_error(Exit::usage, "--seqlen", [&] { divergence(*original, *original, ids_, {.seqlen = 1}); });
}

}  // namespace
}  // namespace ptq

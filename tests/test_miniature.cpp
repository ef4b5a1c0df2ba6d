// The miniature as it is committed (reproduce/miniature, data/miniature). Every model's reference.json holds what
// transformers 4.57.6 made of its files: the ids of a text in all six languages and the log-probabilities of a window.
#include "data/calibration.h"
#include "device.h"
#include "eval/multiple_choice.h"
#include "eval/perplexity.h"
#include "host/files.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include <algorithm>

namespace ptq {
namespace {

namespace fs = std::filesystem;
using Ids = std::vector<std::int32_t>;

const fs::path sources(PTQ_SOURCE_DIR);
const fs::path data = sources / "data" / "miniature";

std::vector<fs::path> models() {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(sources / "reproduce" / "miniature" / "models"))
    found.push_back(entry.path());
  std::sort(found.begin(), found.end());
  return found;
}

class MiniatureModel : public testing::TestWithParam<fs::path> {
 protected:
  std::unique_ptr<Ops> ops = make_test_ops();
  std::unique_ptr<Tokenizer> tokenizer = load_tokenizer(GetParam());
  Transformer model{std::make_shared<ModelFiles>(ModelFiles::open(GetParam())), *ops, DType::f32};

  void SetUp() override { model.load_all(); }
};

TEST_P(MiniatureModel, EqualsTransformers) {
  const nlohmann::json reference = read_json(GetParam() / "reference.json", "reference");
  EXPECT_EQ(text_ids(*tokenizer, reference.at("text").get<std::string>()), reference.at("ids").get<Ids>());
  const auto expected = reference.at("log_p").get<std::vector<double>>();
  Ids window = reference.at("ids").get<Ids>();
  window.resize(expected.size() + 1);
  Batch batch;
  batch.append(window);
  std::vector<Target> targets;
  for (std::size_t i = 0; i + 1 < window.size(); ++i) targets.push_back({static_cast<std::int32_t>(i), window[i + 1]});
  const auto found = TransformerScorer(model).logprobs(batch, targets);
  ASSERT_EQ(found.size(), expected.size());
  // Logits reach 20, where an ulp is 2e-6; both sides round sums of that size a few times, and the file six decimals.
  for (std::size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], expected[i], 2e-5) << i;
}

// What the models are for: they know something of every task and not everything, so that a loss and a gain would show.
TEST_P(MiniatureModel, TasksAreBetweenChanceAndCeiling) {
  for (const auto& [name, chance] : {std::pair{"arc", 0.25}, {"piqa", 0.5}, {"winogrande", 0.5}}) {
    const Task task = read_task((data / (std::string(name) + ".jsonl")).string(), {});
    EXPECT_GE(task.documents.size(), 200u);
    const Metric accuracy = multiple_choice(TransformerScorer(model), *tokenizer, task, {.bos = true}).acc;
    EXPECT_GT(accuracy.value - 4 * accuracy.stderr_, chance) << name;
    EXPECT_LT(accuracy.value + 2 * accuracy.stderr_, 1.0) << name;
  }
}

TEST_P(MiniatureModel, EveryTextIsLongEnough) {
  for (const char* set : {"mixed", "en", "ru", "el", "ar", "hi", "zh", "stories"}) {
    const CalibrationSet built = build_calibration(
        {.set = std::string("miniature:") + set, .samples = 128, .seqlen = 128, .data = sources / "data"},
        tokenizer.get());
    EXPECT_EQ(built.windows.size(), 128u) << set;
  }
  for (const char* set : {"arc", "piqa", "winogrande"})
    EXPECT_GE(build_calibration(
                  {.set = std::string("miniature:") + set, .samples = 128, .seqlen = 128, .data = sources / "data"},
                  tokenizer.get())
                  .windows.size(),
              40u)
        << set;
}

INSTANTIATE_TEST_SUITE_P(All, MiniatureModel, testing::ValuesIn(models()), [](const auto& test) {
  std::string name = test.param.filename().string();
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

// What the families of the paper differ in is there, and within reach of windows of 128 tokens.
TEST(Miniature, ArchitecturesOfFiveFamilies) {
  const auto config = [](const char* name) {
    return read_config(sources / "reproduce" / "miniature" / "models" / name);
  };
  EXPECT_EQ(config("opt").family, "opt");
  EXPECT_EQ(config("llama").kv_heads, config("llama").heads);
  EXPECT_LT(config("llama3").kv_heads, config("llama3").heads);
  const ModelConfig mistral = config("mistral");
  ASSERT_EQ(mistral.layer.size(), 3u);
  for (const LayerSpec& layer : mistral.layer) EXPECT_EQ(layer.window, 64);
  EXPECT_EQ(config("cohere").family, "cohere");
}

// The seeds of OPT differ in their weights alone.
TEST(Miniature, SeedsShareATokenizer) {
  const fs::path directory = sources / "reproduce" / "miniature" / "models";
  for (const char* seed : {"opt-seed2", "opt-seed3", "opt-seed4"}) {
    for (const char* file : {"tokenizer.json", "config.json"})
      EXPECT_EQ(read_file(directory / seed / file, "model"), read_file(directory / "opt" / file, "model")) << seed;
    EXPECT_NE(read_file(directory / seed / "model.safetensors", "model"),
              read_file(directory / "opt" / "model.safetensors", "model"))
        << seed;
  }
}

}  // namespace
}  // namespace ptq

// The names that profilers see (docs/profiling.md): a backend that writes down which ranges are open, and in which of
// them its operations are called.
#include "eval/generate.h"
#include "eval/perplexity.h"
#include "host/cpu/cpu_ops.h"
#include "host/range.h"
#include "quant/quantize.h"
#include "quant_inputs.h"
#include "tiny_checkpoint.h"

#include <gtest/gtest.h>

#include <set>

namespace ptq {
namespace {

class RecordingOps final : public CpuOps {
 public:
  RecordingOps() : CpuOps(2) {}

  void begin_range(const char* name) override {
    open_.emplace_back(name);
    ranges.push_back(path());
  }
  void end_range() override {
    ASSERT_FALSE(open_.empty()) << "a range ends that has not begun";
    open_.pop_back();
  }

  void attention(const Tensor& o, const Tensor& q, const Tensor& k, const Tensor& v, std::span<const Segment> segments,
                 const AttentionSpec& spec) override {
    saw("attention");
    CpuOps::attention(o, q, k, v, segments, spec);
  }
  void gram(const Tensor& h, const Tensor& x) override {
    saw("gram");
    CpuOps::gram(h, x);
  }
  bool factor_inverse(const Tensor& h) override {
    saw("factor_inverse");
    return CpuOps::factor_inverse(h);
  }
  void gptq_sweep(const Tensor& w, const GroupedCodes& out, const Tensor& row_error, const Tensor& u,
                  const SweepSpec& spec, bool fixed_grids, const Tensor& g_idx) override {
    saw("gptq_sweep");
    CpuOps::gptq_sweep(w, out, row_error, u, spec, fixed_grids, g_idx);
  }
  void clip_search(const Tensor& clip, const Tensor& w, const Tensor& x, const GridSpec& grid,
                   std::int64_t group) override {
    saw("clip_search");
    CpuOps::clip_search(clip, w, x, grid, group);
  }
  void round_scaled(const Tensor& out, const Tensor& w, const Tensor& t, const GridSpec& grid,
                    std::int64_t group) override {
    saw("round_scaled");
    CpuOps::round_scaled(out, w, t, grid, group);
  }
  std::vector<double> token_logprobs(const Tensor& x, std::span<const Target> targets, const Weight& w,
                                     const LogitSpec& spec) override {
    saw("token_logprobs");
    return CpuOps::token_logprobs(x, targets, w, spec);
  }

  bool balanced() const { return open_.empty(); }

  std::vector<std::string> ranges;                     // "block 0 > qkv", in the order in which they began
  std::map<std::string, std::set<std::string>> where;  // of operations: the ranges that they were called in

 private:
  std::string path() const { return fmt::format("{}", fmt::join(open_, " > ")); }
  void saw(const std::string& operation) { where[operation].insert(path()); }

  std::vector<std::string> open_;
};

class Ranges : public ::testing::Test {
 protected:
  void SetUp() override {
    put_tiny(directory_.path(), tiny_config(), tiny_tensors());
    files_ = std::make_shared<const ModelFiles>(ModelFiles::open(directory_.path()));
  }

  void TearDown() override { EXPECT_TRUE(ops_.balanced()); }

  void quantize(Method method) {
    QuantSpec spec = method == Method::smoothquant ? gptq_spec(8, -1, true) : gptq_spec(4, 8, false);
    spec.method = method;
    const std::vector<Window> windows{{1, 7, 9, 30, 31, 5, 4, 8}, {2, 6, 12, 33, 14, 25, 3, 11}};
    quantize_linears(files_, ops_, spec, DType::f32, windows, {[](auto...) {}, [](auto...) {}});
  }

  void expect_where(const std::string& operation, const std::set<std::string>& ranges) {
    EXPECT_EQ(ops_.where[operation], ranges) << operation;
  }

  TemporaryDirectory directory_;
  std::shared_ptr<const ModelFiles> files_;
  RecordingOps ops_;
};

const std::vector<std::string> stages{"qkv", "o", "gate_up", "down"};

std::string module(int block, const std::string& name) { return fmt::format("model.layers.{}.{}", block, name); }

// prefix "block B > S > step" for the linears of both blocks
std::set<std::string> of_linears(const std::string& step) {
  const std::vector<std::pair<std::string, std::string>> linears{
      {"qkv", "self_attn.q_proj"},  {"qkv", "self_attn.k_proj"}, {"qkv", "self_attn.v_proj"}, {"o", "self_attn.o_proj"},
      {"gate_up", "mlp.gate_proj"}, {"gate_up", "mlp.up_proj"},  {"down", "mlp.down_proj"}};
  std::set<std::string> all;
  for (int b = 0; b < 2; ++b) {
    for (const auto& [stage, name] : linears)
      all.insert(fmt::format("block {} > {} > {} > {}", b, stage, module(b, name), step));
  }
  return all;
}

std::set<std::string> of_stages(const std::string& step) {
  std::set<std::string> all;
  for (int b = 0; b < 2; ++b) {
    for (const std::string& stage : stages) all.insert(fmt::format("block {} > {} > {}", b, stage, step));
  }
  return all;
}

TEST_F(Ranges, ForwardPass) {
  Transformer model(files_, ops_, DType::f32);
  model.load_all();
  Batch batch;
  batch.append(std::vector<std::int32_t>{1, 5, 6});
  model.token_logprobs(model.forward(batch), std::vector<Target>{{0, 5}});
  std::vector<std::string> expected{"load block 0", "load block 1", "load head", "embed"};
  for (int b = 0; b < 2; ++b) {
    expected.push_back(fmt::format("block {}", b));
    for (const std::string& stage : stages) {
      expected.push_back(fmt::format("block {} > {}", b, stage));
      if (stage == "qkv") expected.push_back(fmt::format("block {} > qkv > attention", b));
    }
  }
  expected.push_back("head");
  EXPECT_EQ(ops_.ranges, expected);
  expect_where("attention", {"block 0 > qkv > attention", "block 1 > qkv > attention"});
}

TEST_F(Ranges, Gptq) {
  quantize(Method::gptq);
  expect_where("gram", of_stages("hessian"));
  expect_where("factor_inverse", of_stages("factor"));
  expect_where("gptq_sweep", of_linears("sweep"));
  expect_where("attention", {"block 0 > qkv > attention", "block 1 > qkv > attention"});
}

TEST_F(Ranges, Awq) {
  quantize(Method::awq);
  std::set<std::string> clips = of_stages("clip");
  expect_where("clip_search", clips);
  std::set<std::string> searches = of_stages("search");
  searches.erase("block 0 > o > search");  // heads share their values: v has fewer rows than o has columns
  searches.erase("block 1 > o > search");
  expect_where("round_scaled", searches);
  for (int b = 0; b < 2; ++b)
    EXPECT_TRUE(ops_.where["attention"].contains(fmt::format("block {} > observe > qkv > attention", b)));
  for (const std::string& range : of_linears("round")) EXPECT_EQ(std::ranges::count(ops_.ranges, range), 1) << range;
}

TEST_F(Ranges, OthersRoundLinearByLinear) {
  quantize(Method::smoothquant);
  for (const std::string& range : of_linears("round")) EXPECT_EQ(std::ranges::count(ops_.ranges, range), 1) << range;
  EXPECT_EQ(std::ranges::count(ops_.ranges, "block 1 > observe"), 1);
  EXPECT_EQ(std::ranges::count(ops_.ranges, "block 1 > smooth"), 1);
  ops_.ranges.clear();
  quantize(Method::rtn);
  EXPECT_EQ(std::ranges::count(ops_.ranges, "block 1 > model.layers.1.mlp.up_proj > round"), 1);
}

TEST_F(Ranges, EvaluationAndDecoding) {
  Transformer model(files_, ops_, DType::f32);
  model.load_all();
  std::vector<std::int32_t> ids(24);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(i) + 4;
  perplexity(TransformerScorer(model), ids, {.seqlen = 8, .batch_tokens = 16});
  expect_where("token_logprobs", {"batch 0 > head", "batch 1 > head"});
  GenerateOptions options;
  options.tokens = 2;
  generate(model, std::vector<std::int32_t>{1, 5}, options);
  EXPECT_TRUE(ops_.where["attention"].contains("batch 1 > block 1 > qkv > attention"));
  EXPECT_TRUE(ops_.where["attention"].contains("token 1 > block 1 > qkv > attention"));
  EXPECT_EQ(ops_.ranges.back(), "token 1 > head");
}

// An error in the middle of a range closes it and those around it.
TEST_F(Ranges, EndWithErrors) {
  auto tensors = tiny_tensors();
  tensors.at("model.layers.0.mlp.up_proj.weight").data<float>()[3] = std::numeric_limits<float>::infinity();
  put_tiny(directory_.path(), tiny_config(), tensors);
  files_ = std::make_shared<const ModelFiles>(ModelFiles::open(directory_.path()));
  EXPECT_EQ(exit_of([&] { quantize(Method::gptq); }), Exit::numerics);
  EXPECT_EQ(ops_.ranges.back(), "block 0 > gate_up > model.layers.0.mlp.up_proj");
}

}  // namespace
}  // namespace ptq

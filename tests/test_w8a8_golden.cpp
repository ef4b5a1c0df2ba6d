// W8A8 and SmoothQuant against the reference implementation: activation scales, smoothed parameters, fake-quantized
// weights, and logits of whole models end to end (golden/quant/w8a8, whose README has the tolerances).
#include "device.h"
#include "golden_models.h"
#include "golden_path.h"
#include "host/checkpoint.h"
#include "model/transformer.h"
#include "model/weight_names.h"
#include "quant/quantize_checkpoint.h"
#include "quant/smoothquant.h"
#include "quant/w8a8.h"
#include "rms.h"
#include "temporary.h"

#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace ptq {
namespace {

namespace fs = std::filesystem;

void expect_close(std::span<const float> ours, const Tensor& theirs, const std::string& name) {
  ASSERT_EQ(std::ssize(ours), theirs.numel()) << name;
  double worst = 0;
  for (std::size_t i = 0; i < ours.size(); ++i) {
    const double expected = theirs.data<float>()[i];
    worst = std::max(worst, std::fabs(static_cast<double>(ours[i]) - expected) / std::max(std::fabs(expected), 1e-30));
  }
  EXPECT_LE(worst, 5e-5) << name;
}

struct Case {
  const char* name;
  const char* model;
};

class W8a8Model : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    PTQ_NEED(golden, "PTQ_GOLDEN", "quant");
    source_ = golden / "models" / GetParam().model;
    file_ = open_safetensors(golden / "w8a8" / (std::string(GetParam().name) + ".safetensors"));
    files_ = std::make_shared<const ModelFiles>(ModelFiles::open(source_));
    calibration_ = rows_of(file_->read("calibration", DType::i32));
    eval_ = rows_of(file_->read("eval", DType::i32));
  }

  Tensor golden(const std::string& name) const { return file_->read(name, DType::f32); }

  Batch batch() const {
    Batch b;
    for (const Window& window : eval_) b.append(window);
    return b;
  }

  Tensor logits(const fs::path& directory, IntegerProducts products) const {
    Transformer model(std::make_shared<const ModelFiles>(ModelFiles::open(directory)), ops(), DType::f32);
    model.set_activations(ActivationQuant(model.activations()), products);
    model.load_all();
    return ops().to_host(model.logits(model.forward(batch())));
  }

  // The reference's "per tensor" spans all sequences of its batch, ours one sequence. Here the ranges of the whole
  // batch are measured while the quantized model runs, and put in place of calibrated ones.
  Tensor logits_with_batch_ranges(const fs::path& directory, IntegerProducts products) const {
    Transformer model(std::make_shared<const ModelFiles>(ModelFiles::open(directory)), ops(), DType::f32);
    ActivationQuant activations = model.activations();
    EXPECT_EQ(activations.range, ActivationRange::sequence);
    activations.range = ActivationRange::fixed;
    activations.fixed.resize(static_cast<std::size_t>(model.config().layers));
    model.set_activations(activations, products);
    model.load_all();
    const auto absmax = [](const Tensor& x) {
      float largest = 0;
      const Tensor host = ops().to_host(x);
      for (float v : host.span<float>()) largest = std::max(largest, std::fabs(v));
      return largest;
    };
    Stream s = model.embed(batch());
    for (int layer = 0; layer < model.config().layers; ++layer) {
      Block block = model.load_block(layer);
      model.enter(s, block);
      for (Stage stage : all_stages) {
        block.ranges.input[static_cast<std::size_t>(stage)] = absmax(s.x);
        if (stage == Stage::qkv) {
          Taps taps;
          taps.linear_output = [&](int, LinearRole role, const Tensor& y) {
            block.ranges.qkv.at(static_cast<std::size_t>(role)) = absmax(y);
          };
          Stream rehearsal = s;
          rehearsal.h = ops().to_device(ops().to_host(s.h).clone());
          rehearsal.x = ops().to_device(ops().to_host(s.x).clone());
          model.advance(rehearsal, layer, block, stage, &taps);
        }
        model.advance(s, layer, block, stage);
      }
    }
    return ops().to_host(model.logits(s.h));
  }

  void compare_smoothed(int layer, const BlockWeights& weights, const std::string& alpha) const {
    const ModelConfig& config = files_->config();
    for (NormRole role : {NormRole::attention_in, NormRole::mlp_in}) {
      const std::string name = "smooth" + alpha + "." + norm_module(config, layer, role);
      const auto at = static_cast<std::size_t>(role);
      expect_close(weights.norm_weight[at].span<float>(), golden(name + ".weight"), name);
      if (weights.norm_bias[at]) expect_close(weights.norm_bias[at].span<float>(), golden(name + ".bias"), name);
    }
    if (alpha != "0.5") return;
    for (LinearRole role : all_linear_roles) {
      if (!files_->has_linear(role)) continue;
      const std::string name = "smooth0.5." + files_->linear_ref(layer, role).module;
      if (file_->tensors().contains(name + ".weight"))
        expect_close(weights[role].span<float>(), golden(name + ".weight"), name);
    }
  }

  fs::path source_;
  std::unique_ptr<Checkpoint> file_;
  std::shared_ptr<const ModelFiles> files_;
  std::vector<Window> calibration_, eval_;
};

TEST_P(W8a8Model, ActivationScalesAndSmoothedParameters) {
  const Transformer model(files_, ops(), DType::f32);
  int scales = 0;
  const auto visit = [&](int layer, const Block& block, std::span<Stream> streams) {
    Seconds seconds;
    const BlockRanges ranges = measure_ranges(model, layer, block, streams, false, seconds);
    for (Stage stage : all_stages) {
      for (LinearRole role : roles_of(stage, model.config())) {
        const std::string name = "act_scale." + files_->linear_ref(layer, role).module;
        expect_close(ranges.of(stage), golden(name), name);
        ++scales;
      }
    }
    for (const char* alpha : {"0.5", "0.85"}) {
      BlockWeights weights = load_block_weights(*files_, layer);
      BlockRanges smoothed = ranges;
      smooth_block(ops(), model.config(), std::stod(alpha), weights, smoothed);
      compare_smoothed(layer, weights, alpha);
    }
  };
  Seconds seconds;
  full_precision_walk(model, calibration_, 4096, visit, seconds);
  EXPECT_EQ(scales, std::count_if(file_->tensors().begin(), file_->tensors().end(),
                                  [](const auto& t) { return t.first.starts_with("act_scale."); }));
}

TEST_P(W8a8Model, FakeQuantizedWeights) {
  QuantSpec spec = defaults_of(Method::smoothquant);
  spec.alpha = 0.5;
  std::int64_t equal = 0, total = 0;
  QuantSink sink;
  sink.linear = [&](int layer, LinearRole role, const QuantizedMatrix& m) {
    const std::string name = "smooth0.5.fakeweight." + files_->linear_ref(layer, role).module;
    if (!file_->tensors().contains(name)) return;
    const Tensor expected = golden(name);
    for (std::int64_t i = 0; i < expected.numel(); ++i) {
      const float scale = m.scales.data<float>()[i / expected.cols()];
      equal += std::nearbyint(expected.data<float>()[i] / scale) == static_cast<float>(m.codes.data<std::int8_t>()[i]);
    }
    total += expected.numel();
    // A flipped code moves its weight by one scale; scales agree to 5e-5.
    EXPECT_LT(rms(m.q, expected), 1e-3 * rms(expected, Tensor::zeros(DType::f32, expected.shape()))) << name;
  };
  sink.folded = [](int, const BlockWeights&) {};
  quantize_linears(files_, ops(), spec, DType::f32, calibration_, sink);
  ASSERT_GT(total, 0);
  EXPECT_GE(static_cast<double>(equal), 0.999 * static_cast<double>(total));
}

TEST_P(W8a8Model, LogitsOfEveryVariant) {
  const Tensor full = golden("logits.fp32");
  EXPECT_LT(rms(logits(source_, IntegerProducts::exact), full), 1e-4);
  const std::pair<const char*, const char*> variants[] = {
      {"pc_pt_nobmm", "w8a8"}, {"pc_pt_bmm", "w8a8-bmm"}, {"pt_pt_bmm", "w8a8-wtensor-atensor-bmm"}};
  for (const auto& [variant, scheme] : variants) {
    for (const char* alpha : {"", "0.5", "0.85"}) {
      const std::string smooth = alpha;
      QuantSpec spec = defaults_of(smooth.empty() ? Method::w8a8 : Method::smoothquant);
      apply_scheme(spec, scheme);
      if (!smooth.empty()) spec.alpha = std::stod(smooth);
      const TemporaryDirectory temporary;
      quantize_checkpoint(ops(), {source_, temporary / "out", false, spec, DType::f32, ExportFormat::fake},
                          calibration_, nullptr);
      const Tensor expected = golden("logits." + (smooth.empty() ? "naive" : "smooth" + smooth) + "." + variant);
      for (IntegerProducts products : {IntegerProducts::exact, IntegerProducts::fake}) {
        const Tensor ours = spec.weight_per_tensor ? logits_with_batch_ranges(temporary / "out", products)
                                                   : logits(temporary / "out", products);
        ASSERT_EQ(ours.numel(), expected.numel());
        EXPECT_LT(rms(ours, expected), 1e-2) << variant << " " << smooth;
        EXPECT_GT(rms(ours, full), 0.5 * rms(expected, full));  // it is quantized
        std::printf("%s %s %s %s: rms %.2e, reference against fp32 %.2e\n", GetParam().name, variant,
                    smooth.empty() ? "naive" : alpha, products == IntegerProducts::exact ? "exact" : "fake",
                    rms(ours, expected), rms(expected, full));
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, W8a8Model,
                         testing::Values(Case{"model_opt", "tiny_opt_seed11"},
                                         Case{"model_llama_gqa", "tiny_llama_gqa_seed22"}),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace ptq

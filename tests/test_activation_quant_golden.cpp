// Activation quantization against SmoothQuant's fake-quantized linears and models (golden/quant/w8a8), recorded from
// the reference implementation.
#include "activation_quant.h"
#include "compare.h"
#include "device.h"
#include "golden_path.h"
#include "model/transformer.h"

#include <gtest/gtest.h>

#include <array>

namespace ptq {
namespace {

namespace fs = std::filesystem;

TEST(ActivationQuantGolden, ReferenceLinears) {
  PTQ_NEED(directory, "PTQ_GOLDEN", "quant/w8a8");
  const auto ops = make_test_ops();
  int compared = 0;
  for (const char* name : {"linear_a", "linear_b"}) {
    const auto golden = open_safetensors(directory / (std::string(name) + ".safetensors"));
    const auto read = [&](const std::string& tensor) { return golden->read(tensor, DType::f32); };
    const Tensor w = read("W"), x3 = read("X"), bias = read("bias");
    const Tensor x = x3.reshape({x3.rows(), x3.cols()});
    const std::vector<Segment> whole{{0, static_cast<std::int32_t>(x.rows()), -1}};  // the reference's "tensor"
    for (const bool weight_per_tensor : {false, true}) {
      for (const bool per_tensor : {false, true}) {
        ActivationQuant how = integers(8, per_tensor ? ActivationRange::sequence : ActivationRange::token);
        how.weight_per_tensor = weight_per_tensor;
        const Tensor values = Tensor::empty(DType::f32, x.shape());
        fake_quantize(*ops, values, x, how, 0, whole);
        EXPECT_EQ(max_difference(values, read(per_tensor ? "act.per_tensor" : "act.per_token")), 0.0);
        for (const auto products : {IntegerProducts::exact, IntegerProducts::fake}) {
          for (const bool quantize_output : {false, true}) {
            const std::string variant =
                fmt::format("y.{}.{}.{}", weight_per_tensor ? "per_tensor" : "per_channel",
                            per_tensor ? "per_tensor" : "per_token", quantize_output ? "outq" : "noutq");
            SCOPED_TRACE(std::string(name) + " " + variant);
            const Tensor y = product(*ops, x, w, bias, how, products, whole);
            if (quantize_output) fake_quantize(*ops, y, y, how, 0, whole);
            const Tensor want = read(variant);
            if (quantize_output) {
              // A product on a rounding tie may take the next code: one step of the output, rarely.
              double worst = 0;
              std::int64_t moved = 0;
              for (std::int64_t i = 0; i < y.numel(); ++i) {
                const double d = std::fabs(static_cast<double>(y.data<float>()[i]) - want.data<float>()[i]);
                worst = std::max(worst, d);
                moved += d > 1e-5 * largest(want) ? 1 : 0;
              }
              EXPECT_LE(worst, 1.001 * largest(want) / 127);
              EXPECT_LE(static_cast<double>(moved), 1e-3 * static_cast<double>(y.numel()));
            } else {
              EXPECT_LE(max_difference(y, want), 1e-5 * largest(want));
            }
            ++compared;
          }
        }
      }
    }
  }
  EXPECT_EQ(compared, 32);
}

struct GoldenModel {
  std::unique_ptr<Checkpoint> golden;
  std::shared_ptr<const ModelFiles> files;
  Batch batch;  // both sequences

  GoldenModel(const fs::path& directory, const char* golden_name, const char* model_name)
      : golden(open_safetensors(directory / "w8a8" / (std::string(golden_name) + ".safetensors"))),
        files(std::make_shared<const ModelFiles>(ModelFiles::open(directory / "models" / model_name))) {
    const Tensor ids = golden->read("eval", DType::i32);
    for (std::int64_t s = 0; s < ids.dim(0); ++s) batch.append(ids.slice_rows(s, s + 1).span<std::int32_t>());
  }
  Tensor logits(const std::string& name) const { return golden->read("logits." + name, DType::f32); }

  // README: rms within 1e-2; and clearly nearer to the reference than to the unquantized model.
  void expect_close(const Tensor& got, const std::string& name) const {
    const Tensor want = logits(name);
    const double rms = rms_difference(got, want);
    EXPECT_LE(rms, 1e-2) << name;
    EXPECT_LE(rms, 0.1 * rms_difference(want, logits("fp32"))) << name;
  }
};

Tensor run(const GoldenModel& m, Ops& ops, const ActivationQuant& how, IntegerProducts products, const Batch& batch,
           const Taps* taps = nullptr) {
  Transformer model(m.files, ops, DType::f32);
  model.set_activations(how, products);
  model.load_all();
  return ops.to_host(model.logits(model.forward(batch, taps))).clone();
}

// Static ranges that equal the absmax of what the model, quantized with them, sees on `batch`: each pass settles at
// least the first range that was not yet right.
ActivationQuant settled_ranges(const GoldenModel& m, Ops& ops, ActivationQuant how, IntegerProducts products,
                               const Batch& batch) {
  const auto layers = static_cast<std::size_t>(m.files->config().layers);
  how.range = ActivationRange::fixed;
  how.fixed.assign(layers, {});
  for (std::size_t pass = 0; pass < 5 * layers + 1; ++pass) {
    std::vector<FixedRanges> seen(layers);
    Taps taps;
    taps.stage_input = [&](int layer, Stage stage, const Tensor& x) {
      seen[static_cast<std::size_t>(layer)].input[static_cast<std::size_t>(stage)] = absmax_of_rows(x, 0, x.rows());
    };
    taps.linear_output = [&](int layer, LinearRole role, const Tensor& y) {
      if (role <= LinearRole::v)
        seen[static_cast<std::size_t>(layer)].qkv[static_cast<std::size_t>(role)] = absmax_of_rows(y, 0, y.rows());
    };
    run(m, ops, how, products, batch, &taps);
    how.fixed = seen;
  }
  return how;
}

constexpr std::array golden_models{std::pair{"model_opt", "tiny_opt_seed11"},
                                   std::pair{"model_llama_gqa", "tiny_llama_gqa_seed22"}};

// Whole models: logits of the reference's fake-quantized model, without smoothing.
TEST(ActivationQuantGolden, ReferenceModels) {
  PTQ_NEED(directory, "PTQ_GOLDEN", "quant");
  const auto ops = make_test_ops();
  for (const auto& [golden_name, model_name] : golden_models) {
    SCOPED_TRACE(golden_name);
    const GoldenModel m(directory, golden_name, model_name);
    for (const auto products : {IntegerProducts::exact, IntegerProducts::fake}) {
      ActivationQuant how = integers(8);
      m.expect_close(run(m, *ops, how, products, m.batch), "naive.pc_pt_nobmm");
      how.bmm = true;
      m.expect_close(run(m, *ops, how, products, m.batch), "naive.pc_pt_bmm");
    }
  }
}

// The reference's "per tensor" spans the tensor that it runs, here a batch of two sequences. Ours spans a sequence,
// whatever it is batched with; its static ranges reach the reference's when they are those of the batch.
TEST(ActivationQuantGolden, ReferencePerTensorModels) {
  PTQ_NEED(directory, "PTQ_GOLDEN", "quant");
  const auto ops = make_test_ops();
  for (const auto& [golden_name, model_name] : golden_models) {
    SCOPED_TRACE(golden_name);
    const GoldenModel m(directory, golden_name, model_name);
    ActivationQuant how = integers(8, ActivationRange::sequence);
    how.weight_per_tensor = how.bmm = true;
    for (const auto products : {IntegerProducts::exact, IntegerProducts::fake}) {
      const ActivationQuant of_batch = settled_ranges(m, *ops, how, products, m.batch);
      m.expect_close(run(m, *ops, of_batch, products, m.batch), "naive.pt_pt_bmm");

      const Tensor both = run(m, *ops, how, products, m.batch);
      for (const Segment& s : m.batch.segments) {
        Batch alone;
        alone.append(std::span(m.batch.ids)
                         .subspan(static_cast<std::size_t>(s.begin), static_cast<std::size_t>(s.end - s.begin)));
        const Tensor own = run(m, *ops, settled_ranges(m, *ops, how, products, alone), products, alone);
        EXPECT_TRUE(testing::same_bits(both.slice_rows(s.begin, s.end), own));
      }
    }
  }
}

}  // namespace
}  // namespace ptq

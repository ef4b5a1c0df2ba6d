// Quantizing whole checkpoint directories: what is written, what is refused, and that failures leave no trace.
#include "host/files.h"
#include "quant/gptq.h"
#include "quant/output_directory.h"
#include "quant/quantize_checkpoint.h"
#include "quant/rtn.h"
#include "tests/quant_inputs.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>
#include <random>

namespace ptq {
namespace {

namespace fs = std::filesystem;

// A random model of two layers: a Llama with grouped heads, or a Cohere with its parallel block.
void write_model(const fs::path& directory, const std::string& family, float poison = 0.0f) {
  fs::create_directories(directory);
  nlohmann::json config{{"model_type", family},     {"vocab_size", 40},
                        {"hidden_size", 24},        {"num_hidden_layers", 2},
                        {"num_attention_heads", 3}, {"num_key_value_heads", 1},
                        {"intermediate_size", 40},  {"max_position_embeddings", 64},
                        {"rope_theta", 10000.0},    {"tie_word_embeddings", true},
                        {"torch_dtype", "float16"}};
  write_file(directory / "config.json", config.dump());
  write_file(directory / "tokenizer.json", "{}");
  write_file(directory / "notes.txt", "not part of a checkpoint");
  std::mt19937 random(7);
  std::normal_distribution<float> normal(0.0f, 0.2f);
  std::map<std::string, Tensor> tensors;
  const auto add = [&](const std::string& name, const Shape& shape) {
    Tensor t = Tensor::empty(DType::f32, shape);
    for (float& v : t.span<float>()) v = shape.size() == 1 ? 1.0f + normal(random) : normal(random);
    tensors[name] = t;
  };
  add("model.embed_tokens.weight", {40, 24});
  add("model.norm.weight", {24});
  for (int layer = 0; layer < 2; ++layer) {
    const std::string at = fmt::format("model.layers.{}.", layer);
    add(at + "input_layernorm.weight", {24});
    if (family == "llama") add(at + "post_attention_layernorm.weight", {24});
    add(at + "self_attn.q_proj.weight", {24, 24});
    add(at + "self_attn.k_proj.weight", {8, 24});
    add(at + "self_attn.v_proj.weight", {8, 24});
    add(at + "self_attn.o_proj.weight", {24, 24});
    add(at + "mlp.gate_proj.weight", {40, 24});
    add(at + "mlp.up_proj.weight", {40, 24});
    add(at + "mlp.down_proj.weight", {24, 40});
  }
  if (poison != 0.0f) tensors.at("model.layers.1.mlp.up_proj.weight").data<float>()[5] = poison;
  write_safetensors(directory / "model.safetensors", tensors);
}

std::vector<Window> windows(unsigned seed, std::size_t count = 6) {
  std::mt19937 random(seed);
  std::vector<Window> result;
  for (std::size_t i = 0; i < count; ++i) {
    Window w(16 + i);
    for (auto& id : w) id = static_cast<std::int32_t>(random() % 40);
    result.push_back(std::move(w));
  }
  return result;
}

class Quantize : public testing::Test {
 protected:
  void SetUp() override {
    directory_ = fs::temp_directory_path() / fmt::format("ptq-quantize-{}", ::getpid());
    fs::remove_all(directory_);
    write_model(directory_ / "model", "llama");
  }
  void TearDown() override { fs::remove_all(directory_); }

  QuantizeJob job(Method method) const {
    QuantizeJob j{directory_ / "model", directory_ / "out", false, defaults_of(method), DType::f32, ExportFormat::fake};
    if (method != Method::w8a8) j.spec.group = 16;
    return j;
  }

  QuantizeReport run(const QuantizeJob& j, const std::vector<Window>& w = windows(1)) const {
    return quantize_checkpoint(ops(), j, w, {{"set", "test"}});
  }

  std::vector<std::string> listing() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(directory_)) names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }

  fs::path directory_;
};

std::map<std::string, Tensor> weights_of(const fs::path& directory) {
  const auto file = open_checkpoint(directory);
  std::map<std::string, Tensor> result;
  for (const auto& [name, info] : file->tensors()) result[name] = file->read(name, DType::f32);
  return result;
}

bool same(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && std::equal(a.span<float>().begin(), a.span<float>().end(), b.data<float>());
}

TEST_F(Quantize, WritesALoadableCheckpoint) {
  const QuantizeReport report = run(job(Method::rtn));
  EXPECT_EQ(report.linears.size(), 14u);
  const auto before = weights_of(directory_ / "model"), after = weights_of(directory_ / "out");
  ASSERT_EQ(before.size(), after.size());
  for (const auto& [name, value] : before) {
    const bool linear = name.find("_proj") != std::string::npos;
    const Tensor expected = linear ? quantize_rtn(ops(), value, job(Method::rtn).spec).q : value;
    EXPECT_TRUE(same(expected, after.at(name))) << name;
  }
  EXPECT_EQ(read_json(directory_ / "out/config.json", "config").at("torch_dtype"), "float32");
  EXPECT_TRUE(fs::exists(directory_ / "out/tokenizer.json"));
  EXPECT_FALSE(fs::exists(directory_ / "out/notes.txt"));
  ModelFiles::open(directory_ / "out");

  const nlohmann::json card = read_json(directory_ / "out/ptq.json", "card");
  EXPECT_EQ(card.at("method"), "rtn");
  EXPECT_EQ(card.at("scheme"), "w4a16-g16-sym");
  EXPECT_EQ(card.at("parameters").at("group"), 16);
  EXPECT_EQ(card.at("calibration").at("set"), "test");
  EXPECT_EQ(card.at("linears").size(), 14u);
  EXPECT_EQ(card.at("source").at("files").at(1).at("sha256"), sha256_file(directory_ / "model/model.safetensors"));
  EXPECT_FALSE(ModelFiles::open(directory_ / "out").activations());
  EXPECT_EQ(listing(), (std::vector<std::string>{"model", "out"}));
}

TEST_F(Quantize, StoresInTheDtypeAsked) {
  for (DType dtype : {DType::bf16, DType::f16}) {
    QuantizeJob j = job(Method::gptq);
    j.dtype = dtype;
    j.force = true;
    run(j);
    const auto stored = open_checkpoint(directory_ / "out");
    for (const auto& [name, info] : stored->tensors()) EXPECT_EQ(info.dtype, dtype) << name;
    EXPECT_EQ(read_json(directory_ / "out/config.json", "config").at("torch_dtype"), std::string(name_of(dtype)));
  }
}

TEST_F(Quantize, W8a8SaysSoOnItsCard) {
  run(job(Method::w8a8), {});
  const ActivationQuant activations = ModelFiles::open(directory_ / "out").activations();
  EXPECT_EQ(activations.kind, ActivationKind::integer);
  EXPECT_EQ(activations.bits, 8);
  EXPECT_EQ(activations.range, ActivationRange::token);
  EXPECT_EQ(activations.weight_bits, 8);
  write_file(directory_ / "out/ptq.json", R"({"activations": {"bits": 6}})");
  EXPECT_EQ(exit_of([&] { ModelFiles::open(directory_ / "out"); }), Exit::data);
  write_file(directory_ / "out/ptq.json", "[]");
  EXPECT_EQ(exit_of([&] { ModelFiles::open(directory_ / "out"); }), Exit::data);
}

TEST_F(Quantize, SameInputsSameBytesAndCalibrationMatters) {
  const auto weights = [&](unsigned seed, bool true_sequential) {
    QuantizeJob j = job(Method::gptq);
    j.force = true;
    j.spec.true_sequential = true_sequential;
    run(j, windows(seed));
    return read_file(directory_ / "out/model.safetensors", "weights");
  };
  const std::string first = weights(1, true);
  EXPECT_TRUE(first == weights(1, true));
  EXPECT_FALSE(first == weights(2, true));
  EXPECT_FALSE(first == weights(1, false));
}

// Without true-sequential the first stage is the same, and later ones see other inputs.
TEST_F(Quantize, TrueSequentialChangesLaterStagesOnly) {
  const auto files = std::make_shared<const ModelFiles>(ModelFiles::open(directory_ / "model"));
  const auto quantized = [&](bool true_sequential) {
    std::map<std::pair<int, LinearRole>, Tensor> result;
    QuantSpec spec = job(Method::gptq).spec;
    spec.true_sequential = true_sequential;
    QuantSink sink;
    sink.linear = [&](int layer, LinearRole role, const QuantizedMatrix& m) { result[{layer, role}] = m.q; };
    quantize_linears(files, ops(), spec, DType::f32, windows(1), sink);
    return result;
  };
  const auto staged = quantized(true), whole = quantized(false);
  for (LinearRole role : {LinearRole::q, LinearRole::k, LinearRole::v}) {
    EXPECT_TRUE(same(staged.at({0, role}), whole.at({0, role})));
  }
  EXPECT_FALSE(same(staged.at({0, LinearRole::down}), whole.at({0, LinearRole::down})));
}

// In a parallel block q, k, v, gate and up read one input, so their health shows one Hessian; each linear of the
// result must be what quantizing it alone with that Hessian gives.
TEST_F(Quantize, ParallelBlocksShareOneHessian) {
  write_model(directory_ / "cohere", "cohere");
  const auto files = std::make_shared<const ModelFiles>(ModelFiles::open(directory_ / "cohere"));
  for (bool true_sequential : {true, false}) {
    QuantSpec spec = job(Method::gptq).spec;
    spec.true_sequential = true_sequential;
    const QuantizeReport report =
        quantize_linears(files, ops(), spec, DType::f32, windows(1),
                         {.linear = [](int, LinearRole, const QuantizedMatrix&) {}, .folded = {}});
    ASSERT_EQ(report.linears.size(), 14u);
    const Transformer model(files, ops(), DType::f32);
    Batch batch;
    for (const Window& w : windows(1)) batch.append(w);
    Stream s = model.embed(batch);
    model.enter(s, model.load_block(0));
    Hessian h(ops(), 24);
    h.add(s.x, 6);
    const HessianFactor factor = factor_hessian(ops(), h, spec, "test");
    for (const LinearHealth& l : report.linears) {
      if (l.layer != 0 || l.role == LinearRole::o || l.role == LinearRole::down) continue;
      const QuantizedMatrix m = quantize_gptq(ops(), files->linear_weight(0, l.role, DType::f32), factor, spec);
      double error = 0;
      for (double e : m.err_rows.span<double>()) error += e;
      EXPECT_NEAR(l.error, error, 1e-4 * error) << l.module;
    }
  }
}

// One token makes a Hessian of rank 1, which cannot be factored without damping.
TEST_F(Quantize, SingularHessianNamesLayerAndDamping) {
  QuantizeJob j = job(Method::gptq);
  j.spec.damp = 0.0;
  std::string message;
  EXPECT_EQ(exit_of([&] { run(j, {{5}}); }, &message), Exit::numerics);
  EXPECT_NE(message.find("layer 0, input of qkv (model.layers.0.self_attn.q_proj"), std::string::npos) << message;
  EXPECT_NE(message.find("damping 0"), std::string::npos) << message;
  EXPECT_EQ(listing(), std::vector<std::string>{"model"});
  j.spec.on_singular = SingularPolicy::damp;
  EXPECT_GT(run(j, {{5}}).retried(), 0);
  j.spec.on_singular = SingularPolicy::rtn;
  j.force = true;
  EXPECT_GT(run(j, {{5}}).fell_back(), 0);
}

TEST_F(Quantize, HealthAndProgress) {
  std::int64_t last = 0, total = 0;
  const QuantizeReport report = quantize_checkpoint(ops(), job(Method::gptq), windows(1), nullptr,
                                                    [&](const std::string&, std::int64_t done, std::int64_t all) {
                                                      EXPECT_EQ(done, last + 1);
                                                      last = done;
                                                      total = all;
                                                    });
  EXPECT_EQ(last, 8);
  EXPECT_EQ(total, 8);
  EXPECT_EQ(report.retried(), 0);
  EXPECT_EQ(report.fell_back(), 0);
  EXPECT_EQ(report.dead_columns(), 0);
  for (const LinearHealth& l : report.linears) {
    EXPECT_EQ(l.damp, 0.01);
    EXPECT_GT(l.error, 0.0);
    EXPECT_GT(l.relative_error, 0.0);
    EXPECT_LT(l.relative_error, 0.05);  // 4 bits
  }
  EXPECT_GT(report.seconds.forward, 0.0);
  EXPECT_GT(report.seconds.sweep, 0.0);
}

TEST_F(Quantize, FailuresLeaveNothing) {
  const auto fails = [&](const QuantizeJob& j, const std::vector<Window>& w) {
    std::string message;
    const Exit code = exit_of([&] { run(j, w); }, &message);
    EXPECT_EQ(listing(), (std::vector<std::string>{"model"})) << message;
    return code;
  };
  EXPECT_EQ(fails(job(Method::gptq), {}), Exit::data);
  EXPECT_EQ(fails(job(Method::gptq), {{1, 2, 40}}), Exit::data);
  EXPECT_EQ(fails(job(Method::gptq), {{1, 2}, {}}), Exit::data);
  QuantizeJob j = job(Method::gptq);
  j.spec.bits = 12;
  EXPECT_EQ(fails(j, windows(1)), Exit::usage);
  j = job(Method::gptq);
  j.output = directory_ / "absent" / "out";
  EXPECT_EQ(fails(j, windows(1)), Exit::create);
  j.output = directory_ / "model";
  EXPECT_EQ(fails(j, windows(1)), Exit::usage);
  j.output = directory_;
  j.force = true;
  EXPECT_EQ(fails(j, windows(1)), Exit::usage);

  write_model(directory_ / "model", "llama", std::nanf(""));
  std::string message;
  EXPECT_EQ(exit_of([&] { run(job(Method::rtn)); }, &message), Exit::numerics);
  EXPECT_NE(message.find("model.layers.1.mlp.up_proj"), std::string::npos) << message;
  write_model(directory_ / "model", "llama", 3e38f);  // the product overflows although the weight does not
  EXPECT_EQ(exit_of([&] { run(job(Method::gptq)); }, &message), Exit::numerics);
  EXPECT_EQ(listing(), (std::vector<std::string>{"model"}));
}

TEST_F(Quantize, AGoodOutputSurvives) {
  run(job(Method::rtn));
  const std::string good = read_file(directory_ / "out/model.safetensors", "weights");
  const auto untouched = [&] { return good == read_file(directory_ / "out/model.safetensors", "weights"); };
  QuantizeJob j = job(Method::gptq);
  EXPECT_EQ(exit_of([&] { run(j); }), Exit::create);
  EXPECT_TRUE(untouched());
  j.force = true;
  EXPECT_EQ(exit_of([&] { run(j, {{99}}); }), Exit::data);
  EXPECT_EQ(exit_of([&] {
              quantize_checkpoint(ops(), j, windows(1), nullptr,
                                  [](const std::string&, std::int64_t done, std::int64_t) {
                                    if (done == 5) fail(Exit::again, "interrupted");
                                  });
            }),
            Exit::again);
  EXPECT_TRUE(untouched());
  EXPECT_EQ(listing(), (std::vector<std::string>{"model", "out"}));
  run(j);
  EXPECT_FALSE(untouched());
  EXPECT_EQ(listing(), (std::vector<std::string>{"model", "out"}));
}

TEST_F(Quantize, ForceRemovesOnlyWhatPtqWrote) {
  QuantizeJob j = job(Method::rtn);
  fs::create_directory(j.output);
  write_file(j.output / "thesis.tex", "years of work");
  j.force = true;
  EXPECT_EQ(exit_of([&] { run(j); }), Exit::create);
  EXPECT_TRUE(fs::exists(j.output / "thesis.tex"));
  fs::remove(j.output / "thesis.tex");
  j.force = false;
  EXPECT_EQ(exit_of([&] { run(j); }), Exit::ok);  // an empty directory holds nothing to lose
}

TEST_F(Quantize, RefusesWhatCannotFit) {
  EXPECT_EQ(exit_of([&] { OutputDirectory(directory_ / "huge", false, std::uintmax_t{1} << 60); }), Exit::io);
  EXPECT_EQ(listing(), (std::vector<std::string>{"model"}));
}

}  // namespace
}  // namespace ptq

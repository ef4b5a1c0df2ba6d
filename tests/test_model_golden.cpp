// The forward pass against transformers 4.57.6 (fp32, eager attention) on tiny models of every family: logits,
// hidden states and the inputs of block 0's linears. Tolerances come with the goldens: ten times the reference's own
// fp32-versus-fp64 difference.
#include "device.h"
#include "golden_models.h"
#include "golden_path.h"
#include "host/files.h"
#include "model/transformer.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <cmath>
#include <map>

namespace ptq {
namespace {

namespace fs = std::filesystem;

struct Golden {
  std::unique_ptr<Checkpoint> tensors;
  nlohmann::json json;

  explicit Golden(const fs::path& directory)
      : tensors(open_safetensors(directory / "golden.safetensors")),
        json(read_json(directory / "golden.json", "golden")) {}

  std::vector<std::vector<std::int32_t>> sequences() const {
    const Tensor ids = tensors->read("input_ids", DType::i32);
    std::vector<std::vector<std::int32_t>> out;
    for (std::int64_t b = 0; b < ids.dim(0); ++b) {
      const auto row = ids.slice_rows(b, b + 1).span<std::int32_t>();
      out.emplace_back(row.begin(), row.end());
    }
    return out;
  }
};

// Largest difference; infinite if anything is not finite.
double max_difference(std::span<const float> a, std::span<const float> b) {
  EXPECT_EQ(a.size(), b.size());
  double worst = 0;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    const double d = std::fabs(static_cast<double>(a[i]) - b[i]);
    worst = d <= worst ? worst : (std::isfinite(d) ? d : INFINITY);
  }
  return worst;
}

double rms(std::span<const float> a) {
  double sum = 0;
  for (float x : a) sum += static_cast<double>(x) * x;
  return std::sqrt(sum / static_cast<double>(a.size()));
}

struct Recorded {
  std::map<std::string, Tensor> taps;
  Tensor logits;
};

Recorded run(const Transformer& model, std::span<const std::int32_t> ids) {
  Recorded r;
  const auto keep = [&](const std::string& name, const Tensor& t) {
    r.taps[name] = model.ops().to_host(t).to(DType::f32).clone();
  };
  Taps taps;
  taps.embedded = [&](const Tensor& h) { keep("hidden.embed", h); };
  taps.block_output = [&](int i, const Tensor& h) { keep(fmt::format("hidden.block{}", i), h); };
  taps.final_norm = [&](const Tensor& h) { keep("hidden.final_norm", h); };
  taps.head_input = [&](const Tensor& h) { keep("hidden.lm_head_in", h); };
  taps.stage_input = [&](int layer, Stage stage, const Tensor& x) {
    if (layer != 0) return;
    for (LinearRole role : roles_of(stage, model.config())) {
      const std::string module = model.files().linear_ref(0, role).module;
      keep("act." + module.substr(module.find("layers.0.") + 9), x);
    }
  };
  Batch batch;
  batch.append(ids);
  r.logits = model.ops().to_host(model.logits(model.forward(batch, &taps), &taps));
  return r;
}

Transformer load(const fs::path& directory, Ops& ops, DType dtype) {
  Transformer model(std::make_shared<const ModelFiles>(ModelFiles::open(directory)), ops, dtype);
  model.load_all();
  return model;
}

TEST(ModelGolden, Fp32LogitsHiddenStatesAndLinearInputs) {
  const auto ops = make_test_ops();
  for (const fs::path& directory : golden_models()) {
    SCOPED_TRACE(directory.filename().string());
    const Golden golden(directory);
    const auto& tolerance = golden.json.at("tolerance");
    const double logits_abs = tolerance.at("logits_abs"), hidden_rel = tolerance.at("hidden_rel_to_max");
    const Transformer model = load(directory, *ops, DType::f32);
    const auto sequences = golden.sequences();
    const Tensor logits = golden.tensors->read("logits", DType::f32);
    const auto positions = golden.tensors->read("positions", DType::i32);
    int compared = 0;
    for (std::size_t b = 0; b < sequences.size(); ++b) {
      const Recorded r = run(model, sequences[b]);
      const auto row = static_cast<std::int64_t>(b);
      EXPECT_LE(max_difference(r.logits.span<float>(), logits.slice_rows(row, row + 1).span<float>()), logits_abs);
      for (const auto& [name, value] : r.taps) {
        if (golden.tensors->tensors().count(name) == 0) continue;
        if (name.rfind("act.", 0) == 0 && b > 0) continue;
        Tensor expected = golden.tensors->read(name, DType::f32);
        Tensor actual = value;
        if (name.rfind("hidden.", 0) == 0) {
          expected = expected.slice_rows(row, row + 1);
          actual = Tensor::empty(DType::f32, {positions.numel(), value.cols()});
          for (std::int64_t p = 0; p < positions.numel(); ++p) {
            const auto from =
                value.slice_rows(positions.data<std::int32_t>()[p], positions.data<std::int32_t>()[p] + 1);
            std::copy_n(from.data<float>(), value.cols(), actual.data<float>() + p * value.cols());
          }
        }
        double largest = 0;
        for (float x : expected.span<float>()) largest = std::max(largest, static_cast<double>(std::fabs(x)));
        EXPECT_LE(max_difference(actual.span<float>(), expected.span<float>()), hidden_rel * largest) << name;
        ++compared;
      }
    }
    EXPECT_GE(compared, 8);
  }
}

// Rope regimes that depend on the length: the first n tokens run alone.
TEST(ModelGolden, LengthDependentRope) {
  const auto ops = make_test_ops();
  int compared = 0;
  for (const fs::path& directory : golden_models()) {
    const Golden golden(directory);
    for (const auto& [name, info] : golden.tensors->tensors()) {
      if (name.rfind("logits_prefix", 0) != 0) continue;
      SCOPED_TRACE(directory.filename().string() + " " + name);
      const Transformer model = load(directory, *ops, DType::f32);
      const Tensor expected = golden.tensors->read(name, DType::f32);
      const auto sequences = golden.sequences();
      for (std::size_t b = 0; b < sequences.size(); ++b) {
        const Recorded r = run(model, std::span(sequences[b]).first(static_cast<std::size_t>(info.shape[1])));
        const auto row = static_cast<std::int64_t>(b);
        EXPECT_LE(max_difference(r.logits.span<float>(), expected.slice_rows(row, row + 1).span<float>()),
                  golden.json.at("tolerance").at("logits_abs").get<double>());
        ++compared;
      }
    }
  }
  if (std::getenv("PTQ_GOLDEN") == nullptr) GTEST_SKIP() << "PTQ_GOLDEN is not set";
  EXPECT_GE(compared, 2);
}

// The same sequences in one packed batch, and cut into a shared prefix and a rest, give the same bits.
TEST(ModelGolden, PackingAndPrefixSharingKeepTheBits) {
  const auto ops = make_test_ops();
  for (const fs::path& directory : golden_models()) {
    SCOPED_TRACE(directory.filename().string());
    const Golden golden(directory);
    const Transformer model = load(directory, *ops, DType::f32);
    const auto sequences = golden.sequences();
    const auto& first = sequences[0];
    const auto& second = sequences[1];
    const auto alone = [&](std::span<const std::int32_t> ids) { return run(model, ids).logits; };
    const Tensor a = alone(first), b = alone(second);

    Batch packed;
    packed.append(second);
    packed.append(first);
    const Tensor both = ops->to_host(model.logits(model.forward(packed)));
    const auto n = static_cast<std::int64_t>(second.size());
    EXPECT_EQ(max_difference(both.slice_rows(0, n).span<float>(), b.span<float>()), 0.0);
    EXPECT_EQ(max_difference(both.slice_rows(n, both.dim(0)).span<float>(), a.span<float>()), 0.0);

    const auto length = static_cast<std::int64_t>(first.size());
    for (std::int64_t cut : {std::int64_t{1}, length / 2, length - 1}) {
      if (!model.same_rope(cut, length)) continue;
      Batch shared;
      const auto head = std::span(first).first(static_cast<std::size_t>(cut));
      const auto rest = std::span(first).subspan(static_cast<std::size_t>(cut));
      const int prefix = shared.append(head);
      shared.append(second);
      shared.append(rest, prefix);
      shared.append(rest, prefix);
      const Tensor y = ops->to_host(model.logits(model.forward(shared)));
      EXPECT_EQ(max_difference(y.slice_rows(0, cut).span<float>(), a.slice_rows(0, cut).span<float>()), 0.0);
      for (std::int64_t copy : {0, 1}) {
        const std::int64_t begin = cut + n + copy * (length - cut);
        EXPECT_EQ(max_difference(y.slice_rows(begin, begin + length - cut).span<float>(),
                                 a.slice_rows(cut, length).span<float>()),
                  0.0)
            << "cut " << cut;
      }
    }
  }
}

// Changing a token leaves every earlier position's logits as they were, bit for bit.
TEST(ModelGolden, Causality) {
  const auto ops = make_test_ops();
  for (const fs::path& directory : golden_models()) {
    SCOPED_TRACE(directory.filename().string());
    const Golden golden(directory);
    const Transformer model = load(directory, *ops, DType::f32);
    auto ids = golden.sequences()[0];
    const Tensor before = run(model, ids).logits;
    const auto at = static_cast<std::int64_t>(ids.size()) / 2;
    ids[static_cast<std::size_t>(at)] =
        (ids[static_cast<std::size_t>(at)] + 1) % static_cast<std::int32_t>(model.config().vocab);
    const Tensor after = run(model, ids).logits;
    EXPECT_EQ(max_difference(before.slice_rows(0, at).span<float>(), after.slice_rows(0, at).span<float>()), 0.0);
    EXPECT_GT(max_difference(before.slice_rows(at, at + 1).span<float>(), after.slice_rows(at, at + 1).span<float>()),
              0.0);
  }
}

// Half modes round the residual stream, every linear's output and every nonlinearity: about 14 roundings of relative
// size u (2^-9 for bf16, 2^-12 for fp16; uniform: u / sqrt(3) rms) on the way through a block. Independent errors add
// as a random walk, so the logits move by about u / sqrt(3) * sqrt(14 L + 4) of their rms; random networks without
// training amplify a perturbation by a small factor per block, for which the bound allows 4 in all.
TEST(ModelGolden, HalfModesStayWithinTheirRounding) {
  const auto ops = make_test_ops();
  for (const fs::path& directory : golden_models()) {
    SCOPED_TRACE(directory.filename().string());
    const Golden golden(directory);
    const auto sequences = golden.sequences();
    const Tensor logits = golden.tensors->read("logits", DType::f32);
    for (const auto& [dtype, u] : {std::pair{DType::bf16, std::exp2(-9.0)}, std::pair{DType::f16, std::exp2(-12.0)}}) {
      const Transformer model = load(directory, *ops, dtype);
      const double expected = u / std::sqrt(3.0) * std::sqrt(14.0 * model.config().layers + 4.0);
      for (std::size_t b = 0; b < sequences.size(); ++b) {
        const Tensor y = run(model, sequences[b]).logits;
        const auto row = static_cast<std::int64_t>(b);
        const auto reference = logits.slice_rows(row, row + 1).span<float>();
        std::vector<float> difference(reference.size());
        for (std::size_t i = 0; i < difference.size(); ++i) difference[i] = y.data<float>()[i] - reference[i];
        const double relative = rms(difference) / rms(reference);
        EXPECT_LE(relative, 4.0 * expected) << name_of(dtype);
        EXPECT_GT(relative, 0.02 * expected) << name_of(dtype) << ": does this mode round at all?";
      }
    }
  }
}

TEST(Model, RefusesBadBatches) {
  const auto ops = make_test_ops();
  const auto code_of = [&](const fs::path& directory, std::vector<std::int32_t> ids) {
    const Transformer model = load(directory, *ops, DType::f32);
    Batch batch;
    batch.append(ids);
    try {
      model.forward(batch);
    } catch (const Error& e) {
      return static_cast<int>(e.code());
    }
    return 0;
  };
  const fs::path opt = fs::path(PTQ_SOURCE_DIR) / "tests" / "golden" / "models" / "opt";
  const ModelConfig config = read_config(opt);
  EXPECT_EQ(code_of(opt, {0, 1}), 0);
  EXPECT_EQ(code_of(opt, {}), 65);
  EXPECT_EQ(code_of(opt, {-1}), 65);
  EXPECT_EQ(code_of(opt, {static_cast<std::int32_t>(config.vocab)}), 65);
  EXPECT_EQ(code_of(opt, std::vector<std::int32_t>(static_cast<std::size_t>(config.max_position), 1)), 0);
  EXPECT_EQ(code_of(opt, std::vector<std::int32_t>(static_cast<std::size_t>(config.max_position) + 1, 1)), 65);
}

}  // namespace
}  // namespace ptq

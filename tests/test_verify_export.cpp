// eval/verify_export.h: exports agree with the fake checkpoint of their run, and damage is noticed.
#include "eval/verify_export.h"

#include "compare.h"
#include "export_fixture.h"

namespace ptq {
namespace {

using testing::same_bits;

class VerifyExport : public Export {
 protected:
  static VerifyReport verify(const fs::path& a, const fs::path& b) {
    const auto load = [](const fs::path& path) {
      auto model =
          std::make_unique<Transformer>(std::make_shared<const ModelFiles>(ModelFiles::open(path)), ops(), DType::f32);
      model->load_all();
      return model;
    };
    const auto x = load(a), y = load(b);
    VerifyReport r;
    r.same_run = same_run(x->files(), y->files());
    r.weights = compare_weights(x->files(), y->files(), r.same_run);
    if (r.same_run && !x->activations()) r.logit_bound = logit_bound(x->config(), x->config().stored_dtype);
    r.logits = compare_logits(*x, *y, random_windows(x->config(), 2, 32, 0));
    return r;
  }
};

// AWQ folds scales into norms, SmoothQuant too: their exports hold the folded norms.
TEST_F(VerifyExport, EveryFormatAgreesWithTheFakeOfItsRun) {
  struct Case {
    ExportFormat format;
    const char* scheme;
    Method method;
  };
  for (const Case& c : {Case{ExportFormat::gptq, "w4a16-g32-sym-act", Method::gptq},
                        Case{ExportFormat::gptq_v2, "w4a16-g32-asym", Method::awq},
                        Case{ExportFormat::awq, "w4a16-g32-asym", Method::awq},
                        Case{ExportFormat::compressed_tensors, "w4a16-g32-asym", Method::awq},
                        Case{ExportFormat::compressed_tensors, "w8a8", Method::smoothquant},
                        Case{ExportFormat::compressed_tensors, "w8a8", Method::w8a8}}) {
    SCOPED_TRACE(fmt::format("{} {} {}", name_of(c.format), name_of(c.method), c.scheme));
    const fs::path fake = run(job(ExportFormat::fake, c.scheme, c.method));
    const fs::path out = run(job(c.format, c.scheme, c.method));
    const VerifyReport r = verify(out, fake);
    EXPECT_TRUE(r.same_run);
    EXPECT_EQ(r.weights.tensors, 14 + 7);
    EXPECT_LE(r.weights.relative_error, 0x1p-22);
    EXPECT_GT(r.weights.rounding_used, 0.1);
    EXPECT_EQ(r.logit_bound > 0.0, c.method != Method::smoothquant && c.method != Method::w8a8);
    require_consistent(r);
    if (c.method == Method::awq || c.method == Method::smoothquant) {
      const std::string norm = "model.layers.0.input_layernorm.weight";
      EXPECT_FALSE(
          same_bits(ModelFiles::open(out).checkpoint().read(norm, DType::f16), tensors.at(norm).to(DType::f16)));
    }
    const VerifyReport other = verify(out, dir / "model");
    EXPECT_FALSE(other.same_run);
    EXPECT_EQ(other.logit_bound, 0.0);
    EXPECT_GT(other.logits.relative_rms, r.logits.relative_rms);
    EXPECT_GT(other.logits.kld, 0.0);
    require_consistent(other);
  }
}

TEST_F(VerifyExport, NoticesDamage) {
  const fs::path fake = run(job(ExportFormat::fake, "w4a16-g32-sym"));
  const fs::path out = run(job(ExportFormat::compressed_tensors, "w4a16-g32-sym"));
  const auto stored = open_safetensors(out / "model.safetensors");
  std::map<std::string, Tensor> good;
  for (const auto& [name, info] : stored->tensors()) good[name] = stored->read(name, info.dtype);
  const auto damaged = [&](const std::string& name, const auto& change, std::string_view part) {
    std::map<std::string, Tensor> all = good;
    all[name] = all.at(name).clone();
    change(all[name]);
    write_safetensors(out / "model.safetensors", all);
    expect_error(Exit::numerics, part, [&] { require_consistent(verify(out, fake)); });
  };
  // One code off by one; a scale off by two units in the last place; a norm's gain likewise.
  damaged(
      "model.layers.1.mlp.up_proj.weight_packed", [](const Tensor& t) { t.data<std::int32_t>()[11] ^= 1 << 8; },
      "model.layers.1.mlp.up_proj: a value differs");
  damaged(
      "model.layers.0.self_attn.k_proj.weight_scale",
      [](const Tensor& t) { static_cast<std::uint16_t*>(t.raw())[3] += 2; }, "self_attn.k_proj: a value differs");
  damaged(
      "model.norm.weight", [](const Tensor& t) { static_cast<std::uint16_t*>(t.raw())[3] += 2; },
      "model.norm.weight: a value differs");
  damaged(
      "model.norm.weight", [](const Tensor& t) { static_cast<std::uint16_t*>(t.raw())[0] = 0x7e00; }, "NaN");
  write_safetensors(out / "model.safetensors", good);
  require_consistent(verify(out, fake));

  Json config = model_config("llama");
  config["num_hidden_layers"] = 1;
  fs::create_directories(dir / "shorter");
  put_tiny(dir / "shorter", config, tensors);
  expect_error(Exit::data, "not models of one shape", [&] { verify(out, dir / "shorter"); });
}

TEST_F(VerifyExport, RunsAreToldApartByTheirCards) {
  const fs::path fake = run(job(ExportFormat::fake, "w4a16-g32-sym"));
  QuantizeJob j = job(ExportFormat::compressed_tensors, "w4a16-g16-sym");
  EXPECT_FALSE(same_run(ModelFiles::open(run(j)), ModelFiles::open(fake)));
  j.spec = spec_of("w4a16-g32-sym", Method::rtn);
  const fs::path out = run(j);
  EXPECT_TRUE(same_run(ModelFiles::open(out), ModelFiles::open(fake)));
  EXPECT_FALSE(same_run(ModelFiles::open(fake), ModelFiles::open(fake)));
  put(fake / "ptq.json", "[]");
  expect_error(Exit::data, "ptq.json", [&] { ModelFiles::open(fake); });
  fs::remove(fake / "ptq.json");
  EXPECT_FALSE(same_run(ModelFiles::open(out), ModelFiles::open(fake)));
}

}  // namespace
}  // namespace ptq

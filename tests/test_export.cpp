// Exports: what each format stores is what the quantizer computed, configs hold what their readers know, and what
// cannot be stored is refused without a trace.
#include "quant/quantize_checkpoint.h"

#include "compare.h"
#include "eval/verify_export.h"
#include "export_fixture.h"
#include "host/files.h"

#include <algorithm>
#include <cmath>

namespace ptq {
namespace {

using testing::same_bits;

// Codes and zero points come back bit for bit, scales rounded once, and the card tells what the rounding did.
TEST_F(Export, HoldsWhatTheQuantizerComputed) {
  struct Case {
    ExportFormat format;
    const char* scheme;
    Method method;
  };
  for (const Case& c :
       {Case{ExportFormat::gptq, "w4a16-g32-sym-act", Method::gptq},
        Case{ExportFormat::gptq, "w3a16-row-sym", Method::rtn},
        Case{ExportFormat::gptq_v2, "w4a16-g32-asym-act", Method::gptq},
        Case{ExportFormat::gptq_v2, "w4a16-g32-asym-act-static", Method::gptq},
        Case{ExportFormat::gptq_v2, "w2a16-g16-asym", Method::rtn},
        Case{ExportFormat::gptq_v2, "w8a16-row-asym", Method::rtn},
        Case{ExportFormat::awq, "w4a16-g16-asym", Method::rtn}, Case{ExportFormat::awq, "w4a16-g32-asym", Method::gptq},
        Case{ExportFormat::compressed_tensors, "w4a16-g32-asym-act", Method::gptq},
        Case{ExportFormat::compressed_tensors, "w8a16-g16-sym", Method::rtn},
        Case{ExportFormat::compressed_tensors, "w4a16-row-asym", Method::rtn}}) {
    SCOPED_TRACE(fmt::format("{} {} {}", name_of(c.format), name_of(c.method), c.scheme));
    const QuantizeJob j = job(c.format, c.scheme, c.method);
    const ModelFiles files = ModelFiles::open(run(j));
    EXPECT_TRUE(files.unexpected().empty());
    const Json card = read_json(j.output / "ptq.json", "card");
    EXPECT_EQ(card.at("format"), std::string(name_of(c.format)));
    std::size_t linears = 0;
    QuantSink sink;
    sink.linear = [&](int layer, LinearRole role, const QuantizedMatrix& m) {
      const auto stored = files.linear_codes(layer, role);
      ASSERT_TRUE(stored);
      EXPECT_TRUE(same_bits(stored->codes, m.codes));
      EXPECT_TRUE(same_bits(stored->zeros, m.zeros));
      EXPECT_TRUE(same_bits(stored->g_idx, m.g_idx));
      EXPECT_TRUE(same_bits(stored->scales, m.scales.to(DType::f16).to(DType::f32)));
      const Json& health = card.at("linears").at(linears++);
      EXPECT_EQ(health.at("storage_error"), relative_error(m.q, dequantize(*stored)));
      EXPECT_LE(health.at("storage_error"), 0x1p-22);  // (2^-11)^2
    };
    const auto source = std::make_shared<const ModelFiles>(ModelFiles::open(dir / "model"));
    const auto calibration = needs_calibration(j.spec) ? windows() : std::vector<Window>{};
    quantize_linears(source, ops(), j.spec, DType::f32, calibration, sink);
    EXPECT_EQ(linears, 14u);
    for (const auto& [name, tensor] : tensors) {
      if (name.find("_proj") != std::string::npos) continue;
      EXPECT_TRUE(same_bits(files.checkpoint().read(name, DType::f16), tensor.to(DType::f16))) << name;
    }
  }
}

TEST_F(Export, Int8WithActivations) {
  const fs::path out = run(job(ExportFormat::compressed_tensors, "w8a8", Method::w8a8));
  const ModelFiles files = ModelFiles::open(out);
  EXPECT_EQ(files.packed().format, PackedFormat::int_quantized);
  EXPECT_TRUE(files.packed().int8_activations);
  EXPECT_EQ(files.activations().kind, ActivationKind::integer);
  const auto w = files.linear_int8(0, LinearRole::q);
  ASSERT_TRUE(w);
  const Tensor source = tensors.at("model.layers.0.self_attn.q_proj.weight");
  for (std::int64_t r = 0; r < 64; ++r) {
    float absmax = 0.0f;
    for (std::int64_t k = 0; k < 64; ++k) absmax = std::max(absmax, std::fabs(source.data<float>()[r * 64 + k]));
    const float scale = absmax / 127.0f;
    EXPECT_EQ(w->scales.data<float>()[r], to_float(to_f16(scale)));
    for (std::int64_t k = 0; k < 64; ++k) {
      EXPECT_EQ(w->codes.data<std::int8_t>()[r * 64 + k], std::nearbyint(source.data<float>()[r * 64 + k] / scale));
    }
  }
}

TEST_F(Export, FusedLinearsAreStoredWhole) {
  write_model("phi3");
  const fs::path out = run(job(ExportFormat::gptq, "w4a16-g32-sym-act", Method::gptq));
  const fs::path fake = run(job(ExportFormat::fake, "w4a16-g32-sym-act", Method::gptq));
  const ModelFiles a = ModelFiles::open(out), b = ModelFiles::open(fake);
  EXPECT_TRUE(a.checkpoint().tensors().contains("model.layers.1.self_attn.qkv_proj.qweight"));
  EXPECT_TRUE(same_run(a, b));
  const WeightComparison c = compare_weights(a, b, true);
  EXPECT_LE(c.rounding_used, 1.0) << c.worst;
  EXPECT_GT(c.rounding_used, 0.1);
}

std::set<std::string> keys(const Json& object) {
  std::set<std::string> all;
  for (const auto& [key, value] : object.items()) all.insert(key);
  return all;
}

// Readers refuse or warn about keys that they do not know, so the lists are exact (spec F.1 to F.4).
TEST_F(Export, ConfigsHoldWhatReadersKnow) {
  const auto config_of = [&](const QuantizeJob& j) {
    return read_json(run(j) / "config.json", "config").at("quantization_config");
  };
  const Json gptq = config_of(job(ExportFormat::gptq, "w4a16-g32-sym-act", Method::gptq));
  EXPECT_EQ(keys(gptq), (std::set<std::string>{"quant_method", "bits", "group_size", "desc_act", "sym", "damp_percent",
                                               "static_groups", "true_sequential", "lm_head", "checkpoint_format",
                                               "model_name_or_path", "model_file_base_name"}));
  EXPECT_EQ(gptq.at("desc_act"), true);
  EXPECT_EQ(gptq.at("group_size"), 32);
  EXPECT_EQ(gptq, read_json(dir / "gptq/quantize_config.json", "config"));
  EXPECT_EQ(config_of(job(ExportFormat::gptq_v2, "w4a16-g32-asym")).at("checkpoint_format"), "gptq_v2");
  // In static groups act-order leaves no trace in the layout, and kernels for plain groups are faster.
  EXPECT_EQ(config_of(job(ExportFormat::gptq, "w4a16-g32-sym-act-static", Method::gptq)).at("desc_act"), false);

  const Json awq = config_of(job(ExportFormat::awq, "w4a16-g32-asym"));
  EXPECT_EQ(awq, (Json{{"quant_method", "awq"},
                       {"bits", 4},
                       {"group_size", 32},
                       {"zero_point", true},
                       {"version", "gemm"},
                       {"modules_to_not_convert", nullptr}}));
  EXPECT_FALSE(fs::exists(dir / "awq/quantize_config.json"));

  const std::set<std::string> args{"num_bits", "type",           "symmetric",       "strategy",
                                   "dynamic",  "group_size",     "block_structure", "actorder",
                                   "observer", "observer_kwargs"};
  for (const char* scheme : {"w4a16-g32-asym-act", "w8a8"}) {
    const bool int8 = std::string_view(scheme) == "w8a8";
    const Json ct = config_of(job(ExportFormat::compressed_tensors, scheme, int8 ? Method::w8a8 : Method::gptq));
    EXPECT_EQ(keys(ct),
              (std::set<std::string>{"quant_method", "format", "quantization_status", "global_compression_ratio",
                                     "kv_cache_scheme", "ignore", "config_groups"}));
    EXPECT_EQ(ct.at("format"), int8 ? "int-quantized" : "pack-quantized");
    EXPECT_EQ(ct.at("ignore"), Json({"lm_head"}));
    const Json& group = ct.at("config_groups").at("group_0");
    EXPECT_EQ(keys(group), (std::set<std::string>{"targets", "weights", "input_activations", "output_activations"}));
    EXPECT_EQ(keys(group.at("weights")), args);
    EXPECT_EQ(group.at("weights").at("actorder"), int8 ? Json() : Json("group"));
    EXPECT_EQ(group.at("input_activations").is_null(), !int8);
    if (int8) {
      EXPECT_EQ(keys(group.at("input_activations")), args);
    }
  }
  EXPECT_FALSE(read_json(run(job(ExportFormat::fake, "w4a16-g32-sym")) / "config.json", "config")
                   .contains("quantization_config"));
}

TEST_F(Export, FloatsOfPackedFormatsHave16Bits) {
  EXPECT_EQ(float_type(ExportFormat::fake, DType::f32), DType::f32);
  EXPECT_EQ(float_type(ExportFormat::gptq, DType::f32), DType::f16);
  EXPECT_EQ(float_type(ExportFormat::compressed_tensors, DType::bf16), DType::bf16);
  EXPECT_EQ(float_type(ExportFormat::awq, DType::bf16), DType::f16);
  QuantizeJob j = job(ExportFormat::gptq, "w4a16-g32-sym");
  j.dtype = DType::bf16;
  const ModelFiles files = ModelFiles::open(run(j));
  for (const auto& [name, info] : files.checkpoint().tensors()) {
    EXPECT_EQ(info.dtype, is_float(info.dtype) ? DType::bf16 : DType::i32) << name;
  }
  EXPECT_EQ(read_json(j.output / "config.json", "config").at("torch_dtype"), "bfloat16");
  EXPECT_EQ(read_json(j.output / "ptq.json", "card").at("dtype"), "bfloat16");
}

TEST_F(Export, WhatDoesNotFitIsRefusedBeforeAnyWork) {
  using enum ExportFormat;
  refused(Exit::usage, job(gptq, "w4a16-g64-sym"),
          "--group 64 does not divide the 96 columns of model.layers.0.mlp.down_proj; use --group 32 or -1");
  refused(Exit::usage, job(awq, "w4a16-g64-asym"), "use --group 32, or --format fake");
  refused(Exit::usage, job(compressed_tensors, "w4a16-g128-sym"), "use --group 32 or -1 (whole rows)");
  refused(Exit::usage, job(gptq, "w6a16-g32-sym"), "2, 3, 4 or 8 bits, not 6");
  refused(Exit::usage, job(awq, "w3a16-g32-asym"), "use --bits 4");
  refused(Exit::usage, job(awq, "w4a16-g32-sym"), "use --asym");
  refused(Exit::usage, job(awq, "w4a16-row-asym"), "use --group 128");
  refused(Exit::usage, job(awq, "w4a16-g32-asym-act", Method::gptq), "--static-groups");
  refused(Exit::usage, job(compressed_tensors, "w3a16-g32-sym"), "4 or 8 bits, not 3");
  refused(Exit::usage, job(compressed_tensors, "w4a8-g32-sym"), "weights only");
  refused(Exit::usage, job(compressed_tensors, "w6a6", Method::w8a8), "w8a8 alone");
  refused(Exit::usage, job(compressed_tensors, "w8a8-outliers6", Method::w8a8), "w8a8 alone");
  refused(Exit::usage, job(gptq_v2, "w8a8", Method::w8a8), "use --format compressed-tensors");
  refused(Exit::usage, job(gptq, "wnf4a16-b64", Method::nf4), "no code book for nf4");
  expect_error(Exit::usage, "known: fake gptq gptq-v2 awq compressed-tensors", [] { parse_export_format("gguf"); });

  const fs::path packed = run(job(gptq, "w4a16-g32-sym"));
  QuantizeJob again = job(fake, "w4a16-g32-sym");
  again.model = packed;
  refused(Exit::data, again, "it is quantized already (gptq)");

  Json config = model_config("llama");
  config["intermediate_size"] = 80;
  for (auto& [name, tensor] : tensors) {
    if (name.find("gate_proj") != std::string::npos || name.find("up_proj") != std::string::npos) {
      tensor = tensor.slice_rows(0, 80);
    } else if (name.find("down_proj") != std::string::npos) {
      tensor = tensor.reshape({96, 64}).slice_rows(0, 80).reshape({64, 80});
    }
  }
  put_tiny(dir / "model", config, tensors);
  refused(Exit::usage, job(gptq, "w4a16-g16-sym"), "multiples of 32, model.layers.0.mlp.gate_proj is [80, 64]");
  run(job(awq, "w4a16-g16-asym"));
}

// A group of positive weights has zero point 0 (spec F.1).
TEST_F(Export, ZeroPointsOfZeroAreRefusedInGptqV1) {
  Tensor& w = tensors.at("model.layers.1.self_attn.o_proj.weight");
  for (std::int64_t k = 32; k < 64; ++k) w.data<float>()[7 * 64 + k] = 0.1f + 0.001f * static_cast<float>(k);
  put_tiny(dir / "model", model_config("llama"), tensors);
  refused(Exit::usage, job(ExportFormat::gptq, "w4a16-g32-asym"),
          "model.layers.1.self_attn.o_proj: the zero point of row 7, group 1 is 0");
  refused(Exit::usage, job(ExportFormat::gptq, "w4a16-g32-asym"), "--format gptq-v2 or compressed-tensors, or --sym");
  for (const ExportFormat format : {ExportFormat::gptq_v2, ExportFormat::awq, ExportFormat::compressed_tensors}) {
    const ModelFiles files = ModelFiles::open(run(job(format, "w4a16-g32-asym")));
    EXPECT_EQ(files.linear_codes(1, LinearRole::o)->zeros.data<float>()[7 * 2 + 1], 0.0f);
  }
  run(job(ExportFormat::gptq, "w4a16-g32-sym"));
}

TEST_F(Export, ScalesThatFloat16CannotHoldAreRefused) {
  tensors.at("model.layers.1.mlp.up_proj.weight").data<float>()[5] = 1e7f;
  put_tiny(dir / "model", model_config("llama"), tensors);
  refused(Exit::numerics, job(ExportFormat::gptq, "w4a16-g32-sym"),
          "model.layers.1.mlp.up_proj.scales in float16 (try --dtype bf16)");
  QuantizeJob j = job(ExportFormat::gptq, "w4a16-g32-sym");
  j.dtype = DType::bf16;
  run(j);
}

}  // namespace
}  // namespace ptq

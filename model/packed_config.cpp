// The quantization_config of other tools, strictly: what is not understood is refused by name, because a key that is
// ignored (static activation scales, a quantized cache, another packing) means wrong numbers, not an error.
#include "host/error.h"
#include "host/files.h"
#include "host/printable.h"
#include "model/json_fields.h"
#include "model/packed_format.h"

#include <algorithm>

namespace ptq {

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr Size max_config_bytes(std::uint64_t{1} << 20);
constexpr std::int64_t max_group = 1 << 20;
constexpr std::string_view runnable =
    "gptq, awq (gemm), compressed-tensors (int-quantized, pack-quantized); for others start from the unquantized model";

std::int64_t group_size(const JsonFields& json, const char* key, std::int64_t otherwise) {
  const std::int64_t group = json.integer(key, -1, max_group, otherwise);
  require(group != 0, Exit::data, "{}: {} = 0; it is a number of columns, or -1 for whole rows", json.where(), key);
  return group;
}

void require_absent(const JsonFields& json, const char* key, const char* meaning) {
  const Json* value = json.find(key);
  const bool empty =
      value == nullptr || *value == false || ((value->is_object() || value->is_array()) && value->empty());
  require(empty, Exit::data, "{}: {} ({}) cannot be run by this version", json.where(), key, meaning);
}

void require_one_of(const JsonFields& json, const char* key, const std::string& value,
                    std::initializer_list<std::string_view> known) {
  require(std::find(known.begin(), known.end(), value) != known.end(), Exit::data,
          "{}: {} \"{}\" cannot be run (known: {})", json.where(), key, printable(value), fmt::join(known, " "));
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

PackedConfig gptq(const JsonFields& json) {
  PackedConfig c;
  c.bits = static_cast<int>(json.integer("bits", 2, 8));
  require(c.bits <= 4 || c.bits == 8, Exit::data, "{}: bits = {}; GPTQ has 2, 3, 4 and 8", json.where(), c.bits);
  c.group = group_size(json, "group_size", -1);
  c.symmetric = json.boolean("sym", true);
  c.act_order = json.boolean("desc_act", false);
  const std::string layout = json.text("checkpoint_format", "gptq");
  require_one_of(json, "checkpoint_format", layout, {"gptq", "gptq_v2"});
  c.format = layout == "gptq" ? PackedFormat::gptq : PackedFormat::gptq_v2;
  require_one_of(json, "pack_dtype", json.text("pack_dtype", "int32"), {"int32"});
  require_absent(json, "is_marlin_format", "weights in the order of a kernel");
  require_absent(json, "lm_head", "a packed head");
  require_absent(json, "dynamic", "other bits for some modules");
  return c;
}

PackedConfig awq(const JsonFields& json) {
  PackedConfig c;
  c.format = PackedFormat::awq_gemm;
  const char* bits = json.has("w_bit") ? "w_bit" : "bits";
  c.bits = static_cast<int>(json.integer(bits, 1, 64));
  require(c.bits == 4, Exit::data, "{}: {} = {}; AWQ's packing has 4 bits", json.where(), bits, c.bits);
  c.group = group_size(json, json.has("q_group_size") ? "q_group_size" : "group_size", 128);
  c.symmetric = !json.boolean("zero_point", true);
  require(!c.symmetric, Exit::data, "{}: zero_point = false: AWQ's packing has zero points", json.where());
  require_one_of(json, "version", lower(json.text("version", "gemm")), {"gemm"});
  require_one_of(json, "backend", json.text("backend", "autoawq"), {"autoawq"});
  c.kept = json.texts("modules_to_not_convert");
  return c;
}

// One QuantizationArgs object of compressed-tensors: signed integers.
void require_integers(const JsonFields& json) {
  const std::string type = json.text("type", "int");
  require(type == "int", Exit::data, "{}: type \"{}\" cannot be run (known: int)", json.where(), printable(type));
}

// Dynamic per-token int8, as SmoothQuant's activations.
void require_token_int8(const JsonFields& json) {
  require_integers(json);
  const Json* dynamic = json.find("dynamic");
  const bool runs = json.integer("num_bits", 1, 64, 8) == 8 && json.boolean("symmetric", true) &&
                    json.text("strategy", "token") == "token" && dynamic != nullptr && *dynamic == true;
  require(runs, Exit::data,
          "{}: these activations cannot be run; only num_bits 8, symmetric, strategy token, dynamic true can",
          json.where());
}

PackedConfig compressed_tensors(const JsonFields& json) {
  require_one_of(json, "quantization_status", json.text("quantization_status", "compressed"), {"compressed"});
  require_absent(json, "kv_cache_scheme", "a quantized cache");
  require_absent(json, "transform_config", "rotations at run time");
  if (json.has("sparsity_config")) {
    const JsonFields sparsity = json.object("sparsity_config");
    require_one_of(sparsity, "format", sparsity.text("format", "dense"), {"dense"});
  }
  const std::string layout = json.text("format", "");
  require_one_of(json, "format", layout, {"int-quantized", "pack-quantized"});

  const JsonFields groups = json.object("config_groups");
  const Json& list = *json.find("config_groups");
  require(list.size() == 1, Exit::data, "{}: {} groups; only one scheme for all linears can be run", groups.where(),
          list.size());
  const std::string group = list.begin().key();
  const JsonFields scheme(list.begin().value(), groups.where() + ": " + printable(group));
  require_one_of(scheme, "format", scheme.text("format", layout), {layout});
  scheme.texts("targets");
  require_absent(scheme, "output_activations", "quantized outputs");
  const JsonFields weights = scheme.object("weights");
  require_integers(weights);

  PackedConfig c;
  c.format = layout == "int-quantized" ? PackedFormat::int_quantized : PackedFormat::pack_quantized;
  c.bits = static_cast<int>(weights.integer("num_bits", 1, 64, 8));
  c.symmetric = weights.boolean("symmetric", true);
  require_absent(weights, "dynamic", "weights quantized at run time");
  const std::string strategy = weights.text("strategy", weights.has("group_size") ? "group" : "channel");
  if (c.format == PackedFormat::int_quantized) {
    require(c.bits == 8 && c.symmetric, Exit::data,
            "{}: int-quantized weights must be symmetric with num_bits 8, not {} with {}", weights.where(),
            c.symmetric ? "symmetric" : "asymmetric", c.bits);
    require_one_of(weights, "strategy", strategy, {"channel"});
  } else {
    require(c.bits == 4 || c.bits == 8, Exit::data, "{}: num_bits = {}; pack-quantized has 4 and 8", weights.where(),
            c.bits);
    require_one_of(weights, "strategy", strategy, {"group", "channel"});
    if (strategy == "group") c.group = weights.integer("group_size", 1, max_group);
    const Json* order = weights.find("actorder");
    if (order != nullptr && order->is_boolean()) {
      c.act_order = order->get<bool>();
    } else if (order != nullptr) {
      const std::string name = weights.text("actorder", "");
      require_one_of(weights, "actorder", name, {"group", "dynamic", "weight", "static"});
      c.act_order = name == "group" || name == "dynamic";
    }
  }
  if (scheme.has("input_activations")) {
    require_token_int8(scheme.object("input_activations"));
    c.int8_activations = true;
  }
  c.kept = json.texts("ignore");
  return c;
}

PackedConfig parse(const JsonFields& json, const std::string& method) {
  if (method == "gptq") return gptq(json);
  if (method == "awq") return awq(json);
  if (method == "compressed-tensors") return compressed_tensors(json);
  fail(Exit::data, "{}: quant_method \"{}\" cannot be run (known: {})", json.where(), printable(method), runnable);
}

}  // namespace

std::string_view name_of(PackedFormat format) {
  switch (format) {
    case PackedFormat::none:
      return "none";
    case PackedFormat::gptq:
      return "gptq";
    case PackedFormat::gptq_v2:
      return "gptq_v2";
    case PackedFormat::awq_gemm:
      return "awq";
    case PackedFormat::int_quantized:
      return "int-quantized";
    case PackedFormat::pack_quantized:
      return "pack-quantized";
  }
  return "?";
}

PackedConfig read_packed_config(const fs::path& directory) {
  const fs::path path = directory / "config.json";
  const Json config = read_json(path, "model config", max_config_bytes);
  const JsonFields fields(config, path.string());
  if (fields.has("quantization_config")) {
    const JsonFields json = fields.object("quantization_config");
    return parse(json, json.text("quant_method", ""));
  }
  // AutoGPTQ used to write its parameters beside config.json only, without a method.
  const fs::path beside = directory / "quantize_config.json";
  std::error_code error;
  if (!fs::exists(beside, error)) return {};
  const Json old = read_json(beside, "quantization config", max_config_bytes);
  const JsonFields json(old, beside.string());
  return parse(json, json.text("quant_method", "gptq"));
}

}  // namespace ptq

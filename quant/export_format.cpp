#include "quant/export_format.h"

#include "model/weight_names.h"

#include <array>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

namespace ptq {

namespace {

constexpr std::array<std::pair<std::string_view, ExportFormat>, 5> formats{
    {{"fake", ExportFormat::fake},
     {"gptq", ExportFormat::gptq},
     {"gptq-v2", ExportFormat::gptq_v2},
     {"awq", ExportFormat::awq},
     {"compressed-tensors", ExportFormat::compressed_tensors}}};

bool is_gptq(ExportFormat format) { return format == ExportFormat::gptq || format == ExportFormat::gptq_v2; }

// int-quantized: what consumers compute is weights with a scale per channel (or equal ones: per tensor) and dynamic
// per-token activations, both of 8 bits.
void require_int8(const QuantSpec& spec) {
  const ActivationQuant& a = spec.activations;
  const bool tokens = a.kind == ActivationKind::integer && a.bits == 8 && a.range == ActivationRange::token;
  require(spec.bits == 8 && tokens && !a.bmm && a.outlier_threshold == 0.0f, Exit::usage,
          "--format compressed-tensors cannot hold the scheme {}: of the absmax schemes it has w8a8 alone; use "
          "--scheme w8a8, or --format fake",
          scheme_name(spec));
}

void require_scheme(ExportFormat format, const QuantSpec& spec) {
  const std::string_view name = name_of(format);
  require(spec.method != Method::nf4, Exit::usage, "--format {} has no code book for nf4; use --format fake", name);
  if (spec.absmax_weights()) {
    require(format == ExportFormat::compressed_tensors, Exit::usage,
            "--format {} holds no int8 activations; use --format compressed-tensors for {}", name,
            name_of(spec.method));
    require_int8(spec);
    return;
  }
  require(!spec.activations, Exit::usage,
          "--format {} holds weights only, the scheme {} quantizes activations too; use --format fake, or a scheme "
          "with a16",
          name, scheme_name(spec));
  const int b = spec.bits;
  require(!is_gptq(format) || b == 2 || b == 3 || b == 4 || b == 8, Exit::usage,
          "--format {} packs 2, 3, 4 or 8 bits, not {}; change --bits or use --format fake", name, b);
  require(format != ExportFormat::awq || b == 4, Exit::usage,
          "--format awq packs 4 bits, not {}; use --bits 4, or --format gptq", b);
  require(format != ExportFormat::compressed_tensors || b == 4 || b == 8, Exit::usage,
          "--format compressed-tensors packs 4 or 8 bits, not {}; change --bits or use --format gptq", b);
  if (format != ExportFormat::awq) return;
  require(!spec.symmetric, Exit::usage, "--format awq stores zero points; use --asym, or --format gptq");
  require(spec.group > 0, Exit::usage, "--format awq needs groups of columns; use --group 128 or 64");
  require(!spec.act_order || spec.static_groups, Exit::usage,
          "--format awq cannot hold groups in act-order; add --static-groups, or use --format gptq");
}

// A linear as it is stored: fused ones whole.
struct StoredLinear {
  std::string module;
  Shape shape;
};

std::vector<StoredLinear> stored_linears(const ModelConfig& c) {
  std::vector<StoredLinear> all;
  const auto shapes = expected_tensors(c);
  std::set<std::string> seen;
  for (int layer = 0; layer < c.layers; ++layer) {
    for (LinearRole role : all_linear_roles) {
      if (role == LinearRole::gate && !c.gated) continue;
      const std::string tensor = linear_weight_ref(c, layer, role).tensor;
      if (seen.insert(tensor).second) {
        all.push_back({tensor.substr(0, tensor.size() - std::string_view(".weight").size()), shapes.at(tensor)});
      }
    }
  }
  return all;
}

// The largest divisor of all widths up to `group`.
std::int64_t common_group(const std::vector<StoredLinear>& linears, std::int64_t group) {
  std::int64_t common = 0;
  for (const StoredLinear& l : linears) common = std::gcd(common, l.shape[1]);
  while (group > 1 && common % group != 0) --group;
  return group;
}

void require_shapes(ExportFormat format, const QuantSpec& spec, const ModelConfig& config) {
  const std::vector<StoredLinear> linears = stored_linears(config);
  const std::string_view name = name_of(format);
  for (const auto& [module, shape] : linears) {
    const std::int64_t n = shape[0], k = shape[1];
    require(spec.absmax_weights() || spec.group == -1 || k % spec.group == 0, Exit::usage,
            "--format {}: --group {} does not divide the {} columns of {}; use --group {}{}, or --format fake", name,
            spec.group, k, module, common_group(linears, spec.group),
            format == ExportFormat::awq ? "" : " or -1 (whole rows)");
    // AutoGPTQ refuses to load anything else.
    require(!is_gptq(format) || (n % 32 == 0 && k % 32 == 0), Exit::usage,
            "--format {} needs multiples of 32, {} is [{}, {}]; use --format compressed-tensors", name, module, n, k);
    require(format != ExportFormat::awq || n % 8 == 0, Exit::usage,
            "--format awq needs a multiple of 8 rows, {} has {}; use --format compressed-tensors", module, n);
  }
}

// Linears outside the blocks, which stay in floats.
std::vector<std::string> kept_modules(const ModelConfig& config) {
  const GlobalNames names = global_names(config);
  std::vector<std::string> kept{"lm_head"};
  if (!names.project_in.empty()) kept.insert(kept.end(), {names.project_in, names.project_out});
  return kept;
}

// QuantizationArgs of compressed-tensors, which refuses unknown keys.
nlohmann::json integer_args(int bits, bool symmetric, const char* strategy, bool dynamic) {
  return {{"num_bits", bits},
          {"type", "int"},
          {"symmetric", symmetric},
          {"strategy", strategy},
          {"dynamic", dynamic},
          {"group_size", nullptr},
          {"block_structure", nullptr},
          {"actorder", nullptr},
          {"observer", dynamic ? nlohmann::json() : nlohmann::json("minmax")},
          {"observer_kwargs", nlohmann::json::object()}};
}

nlohmann::json compressed_tensors_config(const PackedConfig& c) {
  nlohmann::json weights = integer_args(c.bits, c.symmetric, c.group == -1 ? "channel" : "group", false);
  if (c.group != -1) weights["group_size"] = c.group;
  if (c.act_order) weights["actorder"] = "group";
  nlohmann::json inputs;
  if (c.int8_activations) inputs = integer_args(8, true, "token", true);
  return {{"quant_method", "compressed-tensors"},
          {"format", name_of(c.format)},
          {"quantization_status", "compressed"},
          {"global_compression_ratio", nullptr},
          {"kv_cache_scheme", nullptr},
          {"ignore", c.kept},
          {"config_groups",
           {{"group_0",
             {{"targets", {"Linear"}},
              {"weights", std::move(weights)},
              {"input_activations", std::move(inputs)},
              {"output_activations", nullptr}}}}}};
}

}  // namespace

ExportFormat parse_export_format(std::string_view text) {
  std::vector<std::string_view> known;
  for (const auto& [name, format] : formats) {
    if (text == name) return format;
    known.push_back(name);
  }
  fail(Exit::usage, "--format {}: unknown (known: {})", text, fmt::join(known, " "));
}

std::string_view name_of(ExportFormat format) {
  for (const auto& [name, value] : formats) {
    if (value == format) return name;
  }
  return "?";
}

PackedConfig packed_config_of(ExportFormat format, const QuantSpec& spec, const ModelFiles& files) {
  PackedConfig c;
  if (format == ExportFormat::fake) return c;
  require_scheme(format, spec);
  require_shapes(format, spec, files.config());
  c.bits = spec.bits;
  c.group = spec.absmax_weights() ? -1 : spec.group;
  c.symmetric = spec.absmax_weights() || spec.symmetric;
  // With static groups or whole rows the groups are runs of columns, however the columns were processed.
  c.act_order = spec.method == Method::gptq && spec.act_order && !spec.static_groups && spec.group != -1;
  c.int8_activations = spec.absmax_weights();
  c.kept = kept_modules(files.config());
  switch (format) {
    case ExportFormat::fake:
      break;
    case ExportFormat::gptq:
      c.format = PackedFormat::gptq;
      break;
    case ExportFormat::gptq_v2:
      c.format = PackedFormat::gptq_v2;
      break;
    case ExportFormat::awq:
      c.format = PackedFormat::awq_gemm;
      break;
    case ExportFormat::compressed_tensors:
      c.format = spec.absmax_weights() ? PackedFormat::int_quantized : PackedFormat::pack_quantized;
      break;
  }
  return c;
}

nlohmann::json quantization_config(const PackedConfig& c, const QuantSpec& spec) {
  switch (c.format) {
    case PackedFormat::none:
      break;
    case PackedFormat::gptq:
    case PackedFormat::gptq_v2:
      return {{"quant_method", "gptq"},
              {"bits", c.bits},
              {"group_size", c.group},
              {"desc_act", c.act_order},
              {"sym", c.symmetric},
              {"damp_percent", spec.damp},
              {"static_groups", spec.static_groups},
              {"true_sequential", spec.true_sequential},
              {"lm_head", false},
              {"checkpoint_format", name_of(c.format)},
              {"model_name_or_path", nullptr},
              {"model_file_base_name", "model"}};
    case PackedFormat::awq_gemm: {
      nlohmann::json config{{"quant_method", "awq"}, {"bits", c.bits},    {"group_size", c.group},
                            {"zero_point", true},    {"version", "gemm"}, {"modules_to_not_convert", nullptr}};
      // The head is known to its readers; naming it would be a list where they expect none.
      if (c.kept.size() > 1) config["modules_to_not_convert"] = c.kept;
      return config;
    }
    case PackedFormat::int_quantized:
    case PackedFormat::pack_quantized:
      return compressed_tensors_config(c);
  }
  fail(Exit::internal, "a quantization_config of format {}", name_of(c.format));
}

DType float_type(ExportFormat format, DType compute) {
  if (format == ExportFormat::fake) return compute;
  return compute == DType::bf16 && format != ExportFormat::awq ? DType::bf16 : DType::f16;
}

}  // namespace ptq

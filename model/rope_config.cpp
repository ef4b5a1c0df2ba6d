#include "model/rope_config.h"

#include "host/error.h"
#include "host/printable.h"

#include <array>
#include <cmath>

namespace ptq {

namespace {

constexpr std::int64_t max_context = std::int64_t{1} << 30;

RopeScaling scaling_of(const std::string& type, const JsonFields& rope, const Family& family) {
  // Early Phi-3 files call their long-context scaling "su" or "yarn".
  if (family.partial_rotary && (type == "su" || type == "yarn")) return RopeScaling::longrope;
  constexpr std::array<std::pair<std::string_view, RopeScaling>, 6> types{{{"default", RopeScaling::none},
                                                                           {"linear", RopeScaling::linear},
                                                                           {"dynamic", RopeScaling::dynamic},
                                                                           {"llama3", RopeScaling::llama3},
                                                                           {"yarn", RopeScaling::yarn},
                                                                           {"longrope", RopeScaling::longrope}}};
  for (const auto& [name, scaling] : types) {
    if (name == type) return scaling;
  }
  fail(Exit::data, "{}: unknown rope type \"{}\"", rope.where(), printable(type));
}

// The type is required as soon as there is anything to scale by.
std::string type_of(const JsonFields& rope) {
  const std::string type = rope.text("rope_type", rope.text("type", ""));
  require(!rope.has("type") || rope.text("type", "") == type, Exit::data, "{}: rope_type and type differ",
          rope.where());
  require(!type.empty() || rope.has("rope_theta"), Exit::data, "{}: rope_type is missing", rope.where());
  require(!type.empty() || !(rope.has("factor") || rope.has("long_factor")), Exit::data, "{}: rope_type is missing",
          rope.where());
  return type.empty() ? "default" : type;
}

double magnitude(double factor, double scale) { return factor <= 1.0 ? 1.0 : 0.1 * scale * std::log(factor) + 1.0; }

void read_yarn(const JsonFields& rope, RopeSpec& spec, std::int64_t max_position) {
  require(spec.theta > 1.0, Exit::data, "{}: yarn needs a theta above 1, it is {}", rope.where(), spec.theta);
  spec.original_max_position = rope.integer("original_max_position_embeddings", 1, max_context, max_position);
  spec.beta_fast = rope.positive("beta_fast", 32.0);
  spec.beta_slow = rope.positive("beta_slow", 1.0);
  spec.truncate = rope.boolean("truncate", true);
  const bool scaled = rope.has("mscale") && rope.has("mscale_all_dim");
  const double inferred =
      scaled ? magnitude(spec.factor, rope.positive("mscale")) / magnitude(spec.factor, rope.positive("mscale_all_dim"))
             : magnitude(spec.factor, 1.0);
  spec.attention_factor = rope.positive("attention_factor", inferred);
}

void read_longrope(const JsonFields& json, const JsonFields& rope, const Family& family, RopeSpec& spec,
                   std::int64_t max_position) {
  constexpr const char* key = "original_max_position_embeddings";
  const auto half = static_cast<std::size_t>(spec.rotary_dim / 2);
  spec.short_factor = rope.positives("short_factor", half);
  spec.long_factor = rope.positives("long_factor", half);
  // Phi-3's class has a default for the original context, and then the ratio of the two replaces `factor`.
  const bool given = json.has(key) || rope.has(key) || family.partial_rotary;
  const std::int64_t fallback = family.partial_rotary ? 4096 : max_position;
  spec.original_max_position = json.integer(key, 2, max_context, rope.integer(key, 2, max_context, fallback));
  spec.factor = given ? static_cast<double>(max_position) / static_cast<double>(spec.original_max_position)
                      : rope.positive("factor");
  const double inferred =
      spec.factor <= 1.0 ? 1.0 : std::sqrt(1.0 + std::log(spec.factor) / std::log(double(spec.original_max_position)));
  spec.attention_factor = rope.positive("attention_factor", inferred);
}

void read_scaling(const JsonFields& json, const JsonFields& rope, const Family& family, RopeSpec& spec,
                  std::int64_t max_position) {
  spec.scaling = scaling_of(type_of(rope), rope, family);
  switch (spec.scaling) {
    case RopeScaling::none:
      break;
    case RopeScaling::linear:
      spec.factor = rope.positive("factor");
      break;
    case RopeScaling::dynamic:
      spec.factor = rope.positive("factor");
      spec.original_max_position = max_position;
      require(spec.rotary_dim > 2, Exit::data, "{}: dynamic rope needs more than 2 rotary dimensions", rope.where());
      break;
    case RopeScaling::llama3:
      spec.factor = rope.positive("factor");
      spec.low_freq_factor = rope.positive("low_freq_factor");
      spec.high_freq_factor = rope.positive("high_freq_factor");
      require(spec.low_freq_factor < spec.high_freq_factor, Exit::data,
              "{}: low_freq_factor {} must be below high_freq_factor {}", rope.where(), spec.low_freq_factor,
              spec.high_freq_factor);
      spec.original_max_position = rope.integer("original_max_position_embeddings", 1, max_context);
      break;
    case RopeScaling::yarn:
      spec.factor = rope.positive("factor");
      read_yarn(rope, spec, max_position);
      break;
    case RopeScaling::longrope:
      read_longrope(json, rope, family, spec, max_position);
      break;
  }
}

int rotary_dim_of(double fraction, const ModelConfig& config, const std::string& where) {
  const auto dim = static_cast<int>(config.head_dim * fraction);
  require(dim >= 2 && dim <= config.head_dim && dim % 2 == 0, Exit::data,
          "{}: rope needs an even number of dimensions, it is {} of head size {}", where, dim, config.head_dim);
  return dim;
}

}  // namespace

void read_rope(const JsonFields& json, const Family& family, ModelConfig& config) {
  std::optional<JsonFields> parameters, local;
  if (json.has("rope_parameters")) {
    parameters = json.object("rope_parameters");
    // One set per layer type, transformers 5 and Gemma-3.
    if (parameters->has("full_attention")) {
      require(family.local_theta.has_value(), Exit::data, "{}: this family has one rope for all layers",
              parameters->where());
      local = parameters->object("sliding_attention");
      parameters = parameters->object("full_attention");
    }
  }
  const JsonFields& theta_source = parameters && parameters->has("rope_theta") ? *parameters : json;
  const JsonFields& partial_source = parameters && parameters->has("partial_rotary_factor") ? *parameters : json;

  RopeSpec& rope = config.rope;
  rope.theta = theta_source.positive("rope_theta", family.theta);
  const double fraction = partial_source.positive("partial_rotary_factor", 1.0);
  require(family.partial_rotary || fraction == 1.0, Exit::data,
          "{}: partial_rotary_factor = {} is not supported for {}", json.where(), fraction, family.model_type);
  rope.rotary_dim = rotary_dim_of(fraction, config, json.where());
  if (parameters) {
    read_scaling(json, *parameters, family, rope, config.max_position);
  } else if (json.has("rope_scaling")) {
    read_scaling(json, json.object("rope_scaling"), family, rope, config.max_position);
  }

  if (!family.local_theta) return;
  config.local_rope.rotary_dim = rope.rotary_dim;
  config.local_rope.theta = local ? local->positive("rope_theta", family.local_theta)
                                  : json.positive("rope_local_base_freq", family.local_theta);
  if (local) {
    require(scaling_of(type_of(*local), *local, family) == RopeScaling::none, Exit::data,
            "{}: scaling of sliding layers is not supported", local->where());
  }
}

}  // namespace ptq

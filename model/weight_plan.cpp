#include "model/weight_plan.h"

#include "model/weight_names.h"

#include <algorithm>

namespace ptq {

namespace {

std::size_t to_size(std::int64_t n) { return static_cast<std::size_t>(n); }

std::int64_t round_up(std::int64_t n, std::int64_t unit) { return (n + unit - 1) / unit * unit; }

struct Packing {
  WeightFormat format;
  std::int64_t groups = 0;
  std::int64_t workspace = 0;  // bytes per weight
};

// What Transformer::load_linear makes of a linear.
Packing packing_of(const ModelFiles& files, const WeightForm& form, int layer, LinearRole role, std::int64_t i) {
  const bool f32 = form.compute == DType::f32;
  if (!files.is_packed(layer, role)) {
    const bool integers = form.activations.kind == ActivationKind::integer && form.activations.weight_bits > 0;
    // Integers are made on the device, from f32 and perhaps by way of their values in f32.
    return {format_of_floats(form.compute, form.activations, form.products), 0, integers ? 8 : 0};
  }
  const PackedConfig& packed = files.packed();
  // Codes on their way into the layout, or f32 products with the expanded weight.
  const std::int64_t workspace = f32 ? 4 : 1;
  if (packed.format == PackedFormat::int_quantized) {
    if (takes_integers(form.activations, form.products)) return {WeightFormat::s8};
    return {WeightFormat::u8, 1, workspace};
  }
  const std::int64_t groups = packed.group == -1 ? 1 : round_up(i, packed.group) / packed.group;
  return {packed.bits <= 4 ? WeightFormat::u4 : WeightFormat::u8, groups, workspace};
}

// Gains and biases, f32.
std::int64_t vector_elements(const ModelConfig& config) {
  std::int64_t sum = 0;
  for (int layer = 0; layer < config.layers; ++layer) {
    for (LinearRole role : all_linear_roles) {
      if (has_bias(config, role)) sum += linear_shape(config, role)[0];
    }
    for (NormRole role : all_norm_roles) {
      if (!norm_module(config, layer, role).empty())
        sum += numel(norm_shape(config, role)) * (config.norm_bias ? 2 : 1);
    }
  }
  return sum;
}

double mib(std::size_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

}  // namespace

std::size_t most_weight_bytes(WeightFormat format, std::int64_t n, std::int64_t i, std::int64_t groups) {
  constexpr std::int64_t row_unit = 64;            // bytes that rows are padded to
  constexpr std::int64_t rows = 32, columns = 64;  // that codes are padded to
  constexpr std::size_t beginnings = 3 * 256;      // the tensors of a weight begin at multiples of 256 bytes
  switch (format) {
    case WeightFormat::f32:
      return to_size(n * round_up(4 * i, row_unit)) + beginnings;
    case WeightFormat::bf16:
    case WeightFormat::f16:
      return to_size(n * round_up(2 * i, row_unit)) + beginnings;
    case WeightFormat::s8:
      return to_size(n * (round_up(i, row_unit) + 4)) + beginnings;
    case WeightFormat::u4:
    case WeightFormat::u8:
      break;
  }
  // Codes, a scale and a zero point per group (one group more for padding), the group of each column.
  const std::int64_t wide = round_up(n, rows), deep = round_up(i, columns);
  return to_size(wide * deep / (format == WeightFormat::u4 ? 2 : 1) + wide * (groups + 1) * 8 + deep * 4) + beginnings;
}

WeightSizes weight_sizes(const ModelFiles& files, const WeightForm& form) {
  const ModelConfig& config = files.config();
  WeightSizes sizes;
  for (int layer = 0; layer < config.layers; ++layer) {
    std::size_t block = 0;
    for (LinearRole role : all_linear_roles) {
      if (!files.has_linear(role)) continue;
      const Shape shape = linear_shape(config, role);
      const Packing p = packing_of(files, form, layer, role, shape[1]);
      block += most_weight_bytes(p.format, shape[0], shape[1], p.groups);
      sizes.workspace = std::max(sizes.workspace, to_size(p.workspace * numel(shape)));
    }
    sizes.blocks += block;
    sizes.largest = std::max(sizes.largest, block);
  }
  sizes.others = most_weight_bytes(float_format(form.compute), config.vocab, config.embed_width, 0) +
                 to_size(vector_elements(config)) * sizeof(float);
  return sizes;
}

std::size_t run_bytes(const ModelConfig& c, DType compute, const RunSize& run) {
  const auto element = static_cast<std::int64_t>(size_of(compute));
  const std::int64_t d = std::max(c.width, c.embed_width);
  // The residual stream, a stage's input as it is and quantized, a branch's output; beside them q, k, v and their
  // product, or the MLP's hidden values: gate, up and quantized.
  const std::int64_t block = 4 * d + std::max(2 * c.q_width() + 2 * c.kv_width(), 3 * c.ffn);
  const std::int64_t rope = 8 * c.head_dim;  // cos and sin of at most two kinds
  const std::int64_t head = c.vocab / 8;     // statistics of parts of a row of at least 64 logits
  const std::int64_t token = element * block + rope + head;
  return to_size(run.tokens * token + run.logits * c.vocab * 4 + 2 * c.layers * run.cached * c.kv_width() * element);
}

bool must_stream(const WeightSizes& sizes, std::size_t run, const ModelConfig& config, std::size_t memory) {
  const std::size_t beside = sizes.others + sizes.workspace + run;
  if (sizes.blocks + beside <= memory) return false;
  require(2 * sizes.largest + beside <= memory, Exit::again,
          "{:.1f} MiB of GPU memory are too little for this model, even with two of its {} blocks at a time: they take "
          "{:.1f} MiB, head, norms and biases {:.1f} MiB, activations and workspace {:.1f} MiB; use a smaller "
          "--batch-tokens or --seqlen, a larger --gpu-memory, or --device cpu",
          mib(memory), config.layers, mib(2 * sizes.largest), mib(sizes.others), mib(sizes.workspace + run));
  return true;
}

}  // namespace ptq

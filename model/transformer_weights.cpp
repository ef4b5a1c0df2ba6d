// What a Transformer holds: loading and packing of weights, and their size.
#include "host/range.h"
#include "model/transformer.h"

#include <algorithm>

namespace ptq {

namespace {

std::size_t index(LinearRole role) { return static_cast<std::size_t>(role); }
std::size_t index(NormRole role) { return static_cast<std::size_t>(role); }

std::vector<WeightPtr> weights_of(const Block& block) {
  std::vector<WeightPtr> weights;
  for (const Linear& l : block.linear) {
    if (l) weights.push_back(l.weight);
  }
  return weights;
}

std::size_t bytes_of(const Linear& l) { return (l ? l.weight->bytes() : 0) + (l.bias ? l.bias.bytes() : 0); }

}  // namespace

Transformer::Transformer(std::shared_ptr<const ModelFiles> files, Ops& ops, DType compute)
    : files_(std::move(files)), ops_(ops), compute_(compute) {
  set_activations(files_->activations());
  const auto dense = [&](const Tensor& t) { return t ? Linear{ops_.pack(t, float_format(compute_)), {}} : Linear{}; };
  if (Tensor positions = files_->position_table(compute_)) positions_ = ops_.to_device(positions);
  final_norm_weight_ = vector(files_->final_norm_weight(DType::f32));
  final_norm_bias_ = vector(files_->final_norm_bias(DType::f32));
  project_in_ = dense(files_->project_in(compute_));
  project_out_ = dense(files_->project_out(compute_));
}

void Transformer::set_activations(ActivationQuant activations, IntegerProducts products) {
  check(activations.range != ActivationRange::fixed || activations.fixed.size() == config().layer.size(),
        "activation ranges of {} layers for a model of {}", activations.fixed.size(), config().layers);
  activations_ = std::move(activations);
  products_ = products;
}

// A gain or bias on the device: values rounded to the compute dtype, kept as f32 (the contract of Ops::norm and
// linear).
Tensor Transformer::vector(const Tensor& t) const { return t ? ops_.to_device(t.to(compute_).to(DType::f32)) : t; }

Linear Transformer::make_linear(const Tensor& weight, int layer, LinearRole role) const {
  return {pack_floats(ops_, weight, compute_, activations_, products_),
          vector(files_->linear_bias(layer, role, DType::f32))};
}

Linear Transformer::load_linear(int layer, LinearRole role) const {
  const auto bias = [&] { return vector(files_->linear_bias(layer, role, DType::f32)); };
  if (const auto codes = files_->linear_codes(layer, role)) return {ops_.pack_codes(*codes, compute_), bias()};
  if (const auto int8 = files_->linear_int8(layer, role))
    return {pack_int8(ops_, *int8, compute_, activations_, products_), bias()};
  // Integer codes come from the stored weight: bf16 in between would move some of them.
  const bool integers = activations_.kind == ActivationKind::integer && activations_.weight_bits > 0;
  return make_linear(files_->linear_weight(layer, role, integers ? DType::f32 : compute_), layer, role);
}

Block Transformer::load_block(int layer) const {
  Block block = load_norms(layer);
  for (LinearRole role : all_linear_roles) {
    if (files_->has_linear(role)) block[role] = load_linear(layer, role);
  }
  return block;
}

Block Transformer::load_norms(int layer) const {
  Block block;
  for (NormRole role : all_norm_roles) {
    block.norm_weight[index(role)] = vector(files_->norm_weight(layer, role, DType::f32));
    block.norm_bias[index(role)] = vector(files_->norm_bias(layer, role, DType::f32));
  }
  if (activations_.range == ActivationRange::fixed) block.ranges = activations_.fixed[static_cast<std::size_t>(layer)];
  return block;
}

Block Transformer::make_block(const BlockWeights& weights, int layer) const {
  Block block;
  for (NormRole role : all_norm_roles) {
    block.norm_weight[index(role)] = vector(weights.norm_weight[index(role)]);
    block.norm_bias[index(role)] = vector(weights.norm_bias[index(role)]);
  }
  for (LinearRole role : all_linear_roles) {
    if (!weights[role]) continue;
    block[role] = {pack_floats(ops_, weights[role], compute_, activations_, products_),
                   vector(weights.bias[index(role)])};
  }
  if (activations_.range == ActivationRange::fixed) block.ranges = activations_.fixed[static_cast<std::size_t>(layer)];
  return block;
}

void Transformer::load_all(const RunSize& run) {
  blocks_.clear();
  weight_stream_.reset();
  if (const auto left = ops_.memory_left()) {
    const auto memory = static_cast<std::size_t>(run.share * static_cast<double>(*left));
    const WeightSizes sizes = weight_sizes(*files_, {compute_, activations_, products_});
    if (must_stream(sizes, run_bytes(config(), compute_, run), config(), memory))
      weight_stream_ = ops_.stream_weights();
  }
  for (int i = 0; i < config().layers; ++i) {
    const Range range(ops_, "load block {}", i);
    blocks_.push_back(load_block(i));
    if (weight_stream_) weight_stream_->add(weights_of(blocks_.back()));
  }
  const Range range(ops_, "load head");
  if (!head_) head_ = Linear{ops_.pack(files_->head(compute_), float_format(compute_)), {}};
  if (weight_stream_) weight_stream_->enter(0);
}

void Transformer::use_blocks_of(std::shared_ptr<const ModelFiles> files) {
  weight_stream_.reset();
  blocks_.clear();
  files_ = std::move(files);
  set_activations(files_->activations(), products_);
}

std::size_t Transformer::weight_bytes() const {
  std::size_t bytes = 0;
  for (const Linear* l : {&project_in_, &project_out_, &head_}) bytes += bytes_of(*l);
  for (const Tensor* t : {&positions_, &final_norm_weight_, &final_norm_bias_}) {
    if (*t) bytes += t->bytes();
  }
  for (const Block& block : blocks_) {
    for (const Linear& l : block.linear) bytes += bytes_of(l);
    for (const auto* tensors : {&block.norm_weight, &block.norm_bias}) {
      for (const Tensor& t : *tensors) {
        if (t) bytes += t.bytes();
      }
    }
  }
  return bytes;
}

std::size_t Transformer::device_weight_bytes() const {
  if (!streamed()) return weight_bytes();
  std::size_t all = 0, largest = 0;
  for (const Block& block : blocks_) {
    std::size_t own = 0;
    for (const WeightPtr& w : weights_of(block)) own += w->bytes();
    all += own;
    largest = std::max(largest, own);
  }
  return weight_bytes() - all + 2 * largest;
}

LinearMemory Transformer::linear_memory() const {
  LinearMemory memory;
  for (const Block& block : blocks_) {
    for (const Linear& l : block.linear) {
      if (!l) continue;
      memory.bytes += l.weight->bytes();
      memory.weights += l.weight->out_features() * l.weight->in_features();
    }
  }
  return memory;
}

}  // namespace ptq

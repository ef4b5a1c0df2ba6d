#include "model/weights.h"

#include "host/printable.h"
#include "model/activation_card.h"
#include "model/weight_names.h"

#include <set>

namespace ptq {

namespace {

constexpr std::string_view base_prefix = "model.", weight_suffix = ".weight";

// Buffers of old checkpoints that are recomputed, and the copy of the embedding that tying makes void.
bool is_ignored(std::string_view name, const ModelConfig& config) {
  return name.ends_with(".rotary_emb.inv_freq") || (config.tied_head && name == "lm_head.weight");
}

}  // namespace

ModelFiles ModelFiles::open(const std::filesystem::path& directory) {
  ModelFiles files;
  files.directory_ = directory;
  files.config_ = read_config(directory);
  files.packed_ = read_packed_config(directory);
  if (files.packed_.int8_activations) files.activations_.kind = ActivationKind::integer;  // the defaults: 8 bits, token
  if (const auto card = read_activations(directory, files.config_.layers)) files.activations_ = *card;
  files.checkpoint_ = open_checkpoint(directory);
  files.expected_ = expected_tensors(files.config_);
  if (files.packed_) files.expect_packed();
  files.check_tensors();
  return files;
}

ModelFiles ModelFiles::with(std::shared_ptr<const Checkpoint> checkpoint, ActivationQuant activations) const {
  ModelFiles changed = *this;
  changed.checkpoint_ = std::move(checkpoint);
  changed.activations_ = std::move(activations);
  return changed;
}

// Some checkpoints (OPT on the Hub) were saved from the bare model: their names lack the leading "model.".
std::string ModelFiles::stored_name(const std::string& name) const {
  const auto& stored = checkpoint_->tensors();
  if (stored.contains(name) || !name.starts_with(base_prefix)) return name;
  std::string bare = name.substr(base_prefix.size());
  return stored.contains(bare) ? bare : name;
}

bool ModelFiles::holds_floats(const std::string& name) const {
  const auto at = checkpoint_->tensors().find(stored_name(name));
  return at != checkpoint_->tensors().end() && is_float(at->second.dtype);
}

// Packed tensors take the place of the linears' weights, except where the file has floats and no packed words.
void ModelFiles::expect_packed() {
  for (int layer = 0; layer < config_.layers; ++layer) {
    for (const LinearRole role : all_linear_roles) {
      if (!has_linear(role)) continue;
      const std::string tensor = linear_weight_ref(config_, layer, role).tensor;
      if (packed_modules_.contains(tensor)) continue;  // the other rows of a fused module
      const std::string module = tensor.substr(0, tensor.size() - weight_suffix.size());
      const std::string words = stored_name(packed_weight_name(packed_, module));
      if (holds_floats(tensor) && (words == stored_name(tensor) || !checkpoint_->tensors().contains(words))) {
        require(!packed_.int8_activations, Exit::data,
                "{}: {} is in floats, the other linears are int8 with int8 activations; such a mixture cannot be run",
                directory_.string(), tensor);
        continue;
      }
      const Shape shape = expected_.at(tensor);
      const bool bare = words == packed_weight_name(packed_, module).substr(base_prefix.size());
      const Packed packed{bare ? module.substr(base_prefix.size()) : module, shape};
      expected_packed_.merge(packed_tensors(packed_, packed.module, shape[0], shape[1]));
      expected_.erase(tensor);
      packed_modules_.emplace(tensor, packed);
    }
  }
}

void ModelFiles::check_tensors() {
  std::set<std::string> used;
  std::vector<std::string> missing;
  const std::string where = directory_.string();
  const auto check_one = [&](const std::string& name, const std::string& stored, const PackedTensor& want) {
    const auto at = checkpoint_->tensors().find(stored);
    if (at == checkpoint_->tensors().end()) {
      if (!want.optional) missing.push_back(name);
      return;
    }
    const TensorInfo& info = at->second;
    require(info.shape == want.shape, Exit::data, "{}/{}: tensor {} has shape {}, config.json asks for {}", where,
            printable(info.file), stored, printable(to_string(info.shape)), to_string(want.shape));
    require(is_float(want.dtype) ? is_float(info.dtype) : info.dtype == want.dtype, Exit::data,
            "{}/{}: tensor {} holds {} values, it must be {}", where, printable(info.file), stored, name_of(info.dtype),
            is_float(want.dtype) ? "floating point" : name_of(want.dtype));
    used.insert(stored);
  };
  for (const auto& [name, shape] : expected_) check_one(name, stored_name(name), {shape, DType::f32});
  for (const auto& [name, tensor] : expected_packed_) check_one(name, name, tensor);
  require(missing.empty(), Exit::data, "{}: {} of {} tensors are missing, the first is {}", where, missing.size(),
          expected_.size() + expected_packed_.size(), missing.empty() ? "" : missing.front());
  for (const auto& [name, info] : checkpoint_->tensors()) {
    if (!used.contains(name) && !is_ignored(name, config_)) unexpected_.push_back(name);
  }
}

std::int64_t ModelFiles::parameters() const {
  std::int64_t sum = 0;
  for (const auto& [name, shape] : expected_) sum += numel(shape);
  for (const auto& [name, packed] : packed_modules_) sum += numel(packed.shape);
  return sum;
}

Tensor ModelFiles::read(const std::string& name, DType as) const {
  return expected_.contains(name) ? checkpoint_->read(stored_name(name), as) : Tensor();
}

bool ModelFiles::has_linear(LinearRole role) const { return role != LinearRole::gate || config_.gated; }

WeightRef ModelFiles::linear_ref(int layer, LinearRole role) const {
  check(has_linear(role) && 0 <= layer && layer < config_.layers, "no such linear in layer {}", layer);
  WeightRef ref = linear_weight_ref(config_, layer, role);
  ref.tensor = stored_name(ref.tensor);
  return ref;
}

const ModelFiles::Packed* ModelFiles::packed_of(const WeightRef& logical) const {
  const auto at = packed_modules_.find(logical.tensor);
  return at == packed_modules_.end() ? nullptr : &at->second;
}

bool ModelFiles::is_packed(int layer, LinearRole role) const {
  return packed_of(linear_weight_ref(config_, layer, role)) != nullptr;
}

std::optional<CodedWeight> ModelFiles::linear_codes(int layer, LinearRole role) const {
  const WeightRef ref = linear_weight_ref(config_, layer, role);
  const Packed* packed = packed_of(ref);
  if (packed == nullptr || packed_.format == PackedFormat::int_quantized) return std::nullopt;
  CodedWeight whole = read_codes(*checkpoint_, packed_, packed->module, packed->shape[0], packed->shape[1]);
  return ref.end == -1 ? whole : rows_of(whole, ref.begin, ref.end);
}

std::optional<Int8Weight> ModelFiles::linear_int8(int layer, LinearRole role) const {
  const WeightRef ref = linear_weight_ref(config_, layer, role);
  const Packed* packed = packed_of(ref);
  if (packed == nullptr || packed_.format != PackedFormat::int_quantized) return std::nullopt;
  Int8Weight whole = read_int8(*checkpoint_, packed->module, packed->shape[0], packed->shape[1]);
  return ref.end == -1 ? whole : rows_of(whole, ref.begin, ref.end);
}

Tensor ModelFiles::linear_weight(int layer, LinearRole role, DType as) const {
  if (const auto codes = linear_codes(layer, role)) return dequantize(*codes).to(as);
  if (const auto int8 = linear_int8(layer, role)) return dequantize(*int8).to(as);
  const WeightRef ref = linear_ref(layer, role);
  return checkpoint_->read(ref.tensor, as, ref.begin, ref.end);
}

Tensor ModelFiles::linear_bias(int layer, LinearRole role, DType as) const {
  return read(linear_module(config_, layer, role) + ".bias", as);
}

Tensor ModelFiles::norm_weight(int layer, NormRole role, DType as) const {
  return read(norm_module(config_, layer, role) + ".weight", as);
}

Tensor ModelFiles::norm_bias(int layer, NormRole role, DType as) const {
  return read(norm_module(config_, layer, role) + ".bias", as);
}

Tensor ModelFiles::embedding(DType as) const { return read(global_names(config_).embedding + ".weight", as); }
Tensor ModelFiles::embedding_row(std::int64_t id, DType as) const {
  return checkpoint_->read(stored_name(global_names(config_).embedding + ".weight"), as, id, id + 1);
}
Tensor ModelFiles::position_table(DType as) const { return read(global_names(config_).positions + ".weight", as); }
Tensor ModelFiles::project_in(DType as) const { return read(global_names(config_).project_in + ".weight", as); }
Tensor ModelFiles::project_out(DType as) const { return read(global_names(config_).project_out + ".weight", as); }
Tensor ModelFiles::final_norm_weight(DType as) const { return read(global_names(config_).final_norm + ".weight", as); }
Tensor ModelFiles::final_norm_bias(DType as) const { return read(global_names(config_).final_norm + ".bias", as); }
Tensor ModelFiles::head(DType as) const { return read(global_names(config_).head + ".weight", as); }

}  // namespace ptq

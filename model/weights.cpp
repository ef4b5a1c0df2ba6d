#include "model/weights.h"

#include "host/printable.h"
#include "model/weight_names.h"

#include <set>

namespace ptq {

namespace {

constexpr std::string_view base_prefix = "model.";

// Buffers of old checkpoints that are recomputed, and the copy of the embedding that tying makes void.
bool is_ignored(std::string_view name, const ModelConfig& config) {
  return name.ends_with(".rotary_emb.inv_freq") || (config.tied_head && name == "lm_head.weight");
}

}  // namespace

ModelFiles ModelFiles::open(const std::filesystem::path& directory) {
  ModelFiles files;
  files.directory_ = directory;
  files.config_ = read_config(directory);
  files.checkpoint_ = open_checkpoint(directory);
  files.expected_ = expected_tensors(files.config_);
  files.check_tensors();
  return files;
}

// Some checkpoints (OPT on the Hub) were saved from the bare model: their names lack the leading "model.".
std::string ModelFiles::stored_name(const std::string& name) const {
  const auto& stored = checkpoint_->tensors();
  if (stored.contains(name) || !name.starts_with(base_prefix)) return name;
  std::string bare = name.substr(base_prefix.size());
  return stored.contains(bare) ? bare : name;
}

void ModelFiles::check_tensors() {
  std::set<std::string> used;
  std::vector<std::string> missing;
  const std::string where = directory_.string();
  for (const auto& [name, shape] : expected_) {
    const std::string stored = stored_name(name);
    const auto at = checkpoint_->tensors().find(stored);
    if (at == checkpoint_->tensors().end()) {
      missing.push_back(name);
      continue;
    }
    const TensorInfo& info = at->second;
    require(info.shape == shape, Exit::data, "{}/{}: tensor {} has shape {}, config.json asks for {}", where,
            printable(info.file), stored, printable(to_string(info.shape)), to_string(shape));
    require(is_float(info.dtype), Exit::data, "{}/{}: tensor {} holds {} values, weights must be floating point", where,
            printable(info.file), stored, name_of(info.dtype));
    used.insert(stored);
  }
  require(missing.empty(), Exit::data, "{}: {} of {} tensors are missing, the first is {}", where, missing.size(),
          expected_.size(), missing.empty() ? "" : missing.front());
  for (const auto& [name, info] : checkpoint_->tensors()) {
    if (!used.contains(name) && !is_ignored(name, config_)) unexpected_.push_back(name);
  }
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

Tensor ModelFiles::linear_weight(int layer, LinearRole role, DType as) const {
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

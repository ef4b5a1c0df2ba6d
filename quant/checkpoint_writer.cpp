#include "quant/checkpoint_writer.h"

#include "model/weight_names.h"
#include "quant/checkpoint_files.h"

#include <cstring>

namespace ptq {

namespace {

constexpr std::string_view weight_suffix = ".weight";

std::string module_of(const std::string& tensor) { return tensor.substr(0, tensor.size() - weight_suffix.size()); }

// What the model uses; leftovers (training state, other towers) and integer buffers are not carried along.
std::vector<TensorInfo> output_tensors(const ModelFiles& files, const LinearStore& store, DType others) {
  const std::set<std::string> leftovers(files.unexpected().begin(), files.unexpected().end());
  const std::set<std::string> linears = linear_tensors(files);
  std::vector<TensorInfo> all;
  for (const auto& [name, info] : files.checkpoint().tensors()) {
    if (!is_float(info.dtype) || leftovers.contains(name)) continue;
    if (linears.contains(name)) {
      for (TensorInfo& t : store.tensors(module_of(name), info.shape.at(0), info.shape.at(1))) {
        all.push_back(std::move(t));
      }
    } else {
      all.push_back({name, others, info.shape, {}});
    }
  }
  return all;
}

// Rows of all parts, one after another.
Tensor joined(const std::vector<QuantizedMatrix>& parts, Tensor QuantizedMatrix::*member) {
  const Tensor& first = parts.front().*member;
  if (!first) return {};
  std::int64_t rows = 0;
  for (const QuantizedMatrix& part : parts) rows += (part.*member).rows();
  Tensor whole = Tensor::empty(first.dtype(), {rows, first.cols()});
  std::int64_t at = 0;
  for (const QuantizedMatrix& part : parts) {
    const Tensor& t = part.*member;
    check(t.cols() == first.cols() && t.dtype() == first.dtype(), "parts of a fused linear differ: {} and {}",
          to_string(t.shape()), to_string(first.shape()));
    std::memcpy(whole.slice_rows(at, at + t.rows()).raw(), t.raw(), t.bytes());
    at += t.rows();
  }
  return whole;
}

// Linears of one fused tensor share their input, hence the order of their columns.
QuantizedMatrix join(const std::vector<QuantizedMatrix>& parts, const std::string& module) {
  QuantizedMatrix whole;
  whole.q = joined(parts, &QuantizedMatrix::q);
  whole.codes = joined(parts, &QuantizedMatrix::codes);
  whole.scales = joined(parts, &QuantizedMatrix::scales);
  whole.zeros = joined(parts, &QuantizedMatrix::zeros);
  whole.g_idx = parts.front().g_idx;
  for (const QuantizedMatrix& part : parts) {
    check(!whole.g_idx || std::memcmp(part.g_idx.raw(), whole.g_idx.raw(), whole.g_idx.bytes()) == 0,
          "{}: its parts differ in g_idx", module);
  }
  return whole;
}

}  // namespace

CheckpointWriter::CheckpointWriter(const ModelFiles& files, Ops& ops, const std::filesystem::path& file,
                                   std::unique_ptr<LinearStore> store, DType others)
    : files_(files),
      ops_(ops),
      store_(std::move(store)),
      others_(others),
      tensors_(output_tensors(files, *store_, others)),
      writer_(file, tensors_) {
  // The largest tensors change in no method: written now, before calibration needs the memory.
  const GlobalNames names = global_names(files.config());
  std::set<std::string> large;
  for (const std::string& module :
       {names.embedding, names.positions, names.project_in, names.project_out, names.head}) {
    large.insert(files.stored_name(module + std::string(weight_suffix)));
  }
  for (const TensorInfo& info : tensors_) {
    if (large.contains(info.name)) write(info.name, files.checkpoint().read(info.name, info.dtype));
  }
}

std::uintmax_t CheckpointWriter::bytes(const ModelFiles& files, const LinearStore& store, DType others) {
  std::uintmax_t sum = 0;
  for (const TensorInfo& t : output_tensors(files, store, others)) {
    sum += static_cast<std::uintmax_t>(numel(t.shape)) * size_of(t.dtype);
  }
  return sum;
}

void CheckpointWriter::write(const std::string& name, const Tensor& value) {
  // float16 ends at 65504; the other types hold whatever a checkpoint holds.
  if (value.dtype() == DType::f16) {
    require_finite(ops_, ops_.to_device(value), name + " in float16 (try --dtype bf16)");
  }
  writer_.write(name, value);
  written_.insert(name);
}

double CheckpointWriter::linear(int layer, LinearRole role, const QuantizedMatrix& m) {
  const WeightRef ref = files_.linear_ref(layer, role);
  const std::string module = module_of(ref.tensor);
  const std::int64_t rows = files_.checkpoint().tensors().at(ref.tensor).shape.at(0);
  const auto store = [&](const QuantizedMatrix& whole) {
    for (const auto& [name, value] : store_->store(module, whole)) write(name, value);
    written_.insert(ref.tensor);
  };
  if (m.q.rows() == rows) {
    store(m);
  } else {
    std::vector<QuantizedMatrix>& parts = parts_[ref.tensor];
    parts.push_back(m);
    std::int64_t have = 0;
    for (const QuantizedMatrix& part : parts) have += part.q.rows();
    // Roles come in the order in which the fused tensor holds them.
    check(have == ref.end && have <= rows, "{} of {} rows of {} after {}", have, rows, ref.tensor, ref.module);
    if (have == rows) {
      store(join(parts, module));
      parts_.erase(ref.tensor);
    }
  }
  return relative_error(m.q, store_->stored_value(m));
}

void CheckpointWriter::folded(int layer, const BlockWeights& block) {
  const auto put = [&](const std::string& logical, const Tensor& value) {
    if (value) write(files_.stored_name(logical), value.to(others_));
  };
  for (LinearRole role : all_linear_roles) {
    if (!files_.has_linear(role)) continue;
    put(linear_module(files_.config(), layer, role) + ".bias", block.bias[static_cast<std::size_t>(role)]);
  }
  for (NormRole role : all_norm_roles) {
    const std::string module = norm_module(files_.config(), layer, role);
    if (module.empty()) continue;
    put(module + ".weight", block.norm_weight[static_cast<std::size_t>(role)]);
    put(module + ".bias", block.norm_bias[static_cast<std::size_t>(role)]);
  }
}

void CheckpointWriter::finish() {
  const std::set<std::string> linears = linear_tensors(files_);
  for (const TensorInfo& info : tensors_) {
    if (written_.contains(info.name)) continue;
    const auto& stored = files_.checkpoint().tensors();
    check(stored.contains(info.name) && !linears.contains(info.name), "{} was never quantized", info.name);
    write(info.name, files_.checkpoint().read(info.name, info.dtype));
  }
  writer_.finish();
}

}  // namespace ptq

#include "quant/changed_tensors.h"

#include "model/weight_names.h"

#include <cstring>

namespace ptq {

namespace {

constexpr std::string_view weight_suffix = ".weight";

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

std::string module_of_weight(const std::string& tensor) {
  return tensor.substr(0, tensor.size() - weight_suffix.size());
}

// bf16 has fewer bits than int8 codes: dequantized weights would move to other codes when they are read.
DType linear_type(const QuantSpec& spec, DType floats) {
  return spec.absmax_weights() && floats == DType::bf16 ? DType::f32 : floats;
}

ChangedTensors::ChangedTensors(const ModelFiles& files, Ops& ops, std::unique_ptr<LinearStore> store, DType others,
                               Write write)
    : files_(files), ops_(ops), store_(std::move(store)), others_(others), write_(std::move(write)) {}

void ChangedTensors::write(const std::string& name, const Tensor& value) {
  // float16 ends at 65504; the other types hold whatever a checkpoint holds.
  if (value.dtype() == DType::f16) {
    require_finite(ops_, ops_.to_device(value), name + " in float16 (try --dtype bf16)");
  }
  write_(name, value);
}

double ChangedTensors::linear(int layer, LinearRole role, const QuantizedMatrix& m) {
  const WeightRef ref = files_.linear_ref(layer, role);
  const std::string module = module_of_weight(ref.tensor);
  const std::int64_t rows = files_.checkpoint().tensors().at(ref.tensor).shape.at(0);
  const auto store = [&](const QuantizedMatrix& whole) {
    for (const auto& [name, value] : store_->store(module, whole)) write(name, value);
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

void ChangedTensors::folded(int layer, const BlockWeights& block) {
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

}  // namespace ptq

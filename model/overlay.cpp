#include "model/overlay.h"

namespace ptq {

TensorOverlay::TensorOverlay(std::shared_ptr<const ModelFiles> base)
    : base_(std::move(base)), tensors_(base_->checkpoint().tensors()) {}

void TensorOverlay::replace(const TensorInfo& info, Changed changed) {
  const auto at = tensors_.find(info.name);
  check(at != tensors_.end() && at->second.shape == info.shape && is_float(at->second.dtype) && is_float(info.dtype),
        "{} {} cannot take the place of a tensor of the model", info.name, to_string(info.shape));
  at->second.dtype = info.dtype;
  changed_[info.name] = std::move(changed);
}

void TensorOverlay::put(const std::string& name, const Tensor& value) {
  replace({name, value.dtype(), value.shape(), {}}, {value, nullptr});
}

void TensorOverlay::put_all(const std::shared_ptr<const Checkpoint>& file) {
  for (const auto& [name, info] : file->tensors()) replace(info, {{}, file});
}

Tensor TensorOverlay::read(const std::string& name, DType as, std::int64_t begin, std::int64_t end) const {
  const auto at = changed_.find(name);
  if (at == changed_.end()) return base_->checkpoint().read(name, as, begin, end);
  if (!at->second.value) return at->second.file->read(name, as, begin, end);
  const Tensor& value = at->second.value;
  const Tensor rows = value.slice_rows(begin, end == -1 ? value.dim(0) : end);
  // Who reads a tensor owns it, as from a file.
  return rows.dtype() == as ? rows.clone() : rows.to(as);
}

}  // namespace ptq

// A checkpoint some of whose tensors are others: how a quantized model, or one with injected outliers, is run without
// being written. The tensors are in memory or in safetensors files; everything else is read from the model's own files.
#pragma once

#include "model/weights.h"

#include <map>
#include <memory>
#include <string>

namespace ptq {

class TensorOverlay final : public Checkpoint {
 public:
  explicit TensorOverlay(std::shared_ptr<const ModelFiles> base);

  // `name` is a floating-point tensor of the base, by its stored name; the shape stays. Not while others read.
  void put(const std::string& name, const Tensor& value);
  void put_all(const std::shared_ptr<const Checkpoint>& file);  // all tensors of a file

  const std::map<std::string, TensorInfo>& tensors() const override { return tensors_; }
  Tensor read(const std::string& name, DType as, std::int64_t begin = 0, std::int64_t end = -1) const override;
  std::vector<std::filesystem::path> files() const override { return base_->checkpoint().files(); }

 private:
  struct Changed {
    Tensor value;                            // or, if empty,
    std::shared_ptr<const Checkpoint> file;  // where it is
  };
  void replace(const TensorInfo& info, Changed changed);

  std::shared_ptr<const ModelFiles> base_;
  std::map<std::string, TensorInfo> tensors_;
  std::map<std::string, Changed> changed_;
};

}  // namespace ptq

// A file whose tensors are contiguous little-endian bytes at offsets: what safetensors and stored zip entries have in
// common. The formats derive from it and only find out where the tensors are.
#pragma once

#include "host/checkpoint.h"
#include "host/input_file.h"

#include <string_view>

namespace ptq {

class StoredTensorFile : public Checkpoint {
 public:
  const std::map<std::string, TensorInfo>& tensors() const override { return tensors_; }

  // Converts piece by piece, so that nothing beside the result is larger than a few MiB.
  Tensor read(const std::string& name, DType as, std::int64_t begin, std::int64_t end) const override;

  std::vector<std::filesystem::path> files() const override { return {file_.path()}; }

 protected:
  // `what` names the kind of file in messages, `name` is TensorInfo::file of its tensors.
  StoredTensorFile(const std::filesystem::path& path, std::string_view what, std::string name)
      : file_(path, what), name_(std::move(name)) {}

  // `offset`: of the tensor's first byte in the file.
  void add(const std::string& tensor, DType dtype, Shape shape, Size offset);

  InputFile file_;

 private:
  std::string name_;
  std::map<std::string, TensorInfo> tensors_;
  std::map<std::string_view, Size> offsets_;  // keys live in tensors_
};

}  // namespace ptq

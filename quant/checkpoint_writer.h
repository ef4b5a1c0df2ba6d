// Streams a quantized model into model.safetensors: each linear as soon as it is quantized, folded norms and biases
// when a block is done, and at the end everything that did not change.
#pragma once

#include "quant/changed_tensors.h"

#include <filesystem>
#include <memory>
#include <set>
#include <vector>

namespace ptq {

class CheckpointWriter {
 public:
  // `others`: the type of everything but the linears. Both references must outlive the writer. Errors of
  // SafetensorsWriter.
  CheckpointWriter(const ModelFiles& files, Ops& ops, const std::filesystem::path& file,
                   std::unique_ptr<LinearStore> store, DType others);
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  // Bytes that the tensors will take.
  static std::uintmax_t bytes(const ModelFiles& files, const LinearStore& store, DType others);

  // See ChangedTensors.
  double linear(int layer, LinearRole role, const QuantizedMatrix& m) { return changed_.linear(layer, role, m); }
  void folded(int layer, const BlockWeights& block) { changed_.folded(layer, block); }
  void finish();

 private:
  const ModelFiles& files_;
  std::vector<TensorInfo> tensors_;
  SafetensorsWriter writer_;
  std::set<std::string> written_;
  ChangedTensors changed_;
};

}  // namespace ptq

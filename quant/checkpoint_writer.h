// Streams a quantized model into model.safetensors: each linear as soon as it is quantized, folded norms and biases
// when a block is done, and at the end everything that did not change.
#pragma once

#include "model/block_weights.h"
#include "model/packed_format.h"
#include "quant/quantized_matrix.h"

#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <vector>

namespace ptq {

// How a linear is stored: as floats or packed. Fused linears (Phi-3) arrive whole.
class LinearStore {
 public:
  virtual ~LinearStore() = default;

  // The tensors that stand for `<module>.weight` [n, k].
  virtual std::vector<TensorInfo> tensors(const std::string& module, std::int64_t n, std::int64_t k) const = 0;
  // Their values, by name.
  virtual std::map<std::string, Tensor> store(const std::string& module, const QuantizedMatrix& m) const = 0;
  // What a reader of the file will multiply with, [N,K] f32.
  virtual Tensor stored_value(const QuantizedMatrix& m) const = 0;
};

std::unique_ptr<LinearStore> make_float_store(DType dtype);
// Scales are stored in `scales`.
std::unique_ptr<LinearStore> make_packed_store(const PackedConfig& config, DType scales);

class CheckpointWriter {
 public:
  // `others`: the type of everything but the linears. Both references must outlive the writer. Errors of
  // SafetensorsWriter.
  CheckpointWriter(const ModelFiles& files, Ops& ops, const std::filesystem::path& file,
                   std::unique_ptr<LinearStore> store, DType others);

  // Bytes that the tensors will take.
  static std::uintmax_t bytes(const ModelFiles& files, const LinearStore& store, DType others);

  // Returns ||stored - q||^2 / ||q||^2: what rounding scales or weights to the stored type adds. Exit 76 if a value
  // does not fit into float16, 2 if the format cannot hold a zero point.
  double linear(int layer, LinearRole role, const QuantizedMatrix& m);
  void folded(int layer, const BlockWeights& block);
  void finish();

 private:
  void write(const std::string& name, const Tensor& value);

  const ModelFiles& files_;
  Ops& ops_;
  std::unique_ptr<LinearStore> store_;
  DType others_;
  std::vector<TensorInfo> tensors_;
  SafetensorsWriter writer_;
  std::set<std::string> written_;
  std::map<std::string, std::vector<QuantizedMatrix>> parts_;  // of fused linears, by tensor
};

}  // namespace ptq

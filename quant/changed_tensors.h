// The tensors that quantization changes, under the names and in the types that a checkpoint has them: where a walk's
// results go, be it a file (checkpoint_writer.h) or a model in memory (model/overlay.h).
#pragma once

#include "model/block_weights.h"
#include "model/packed_format.h"
#include "quant/quantized_matrix.h"
#include "quant/scheme.h"

#include <functional>
#include <map>
#include <memory>
#include <string>
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
// "model.layers.0.mlp.up_proj" of "model.layers.0.mlp.up_proj.weight".
std::string module_of_weight(const std::string& tensor);
// The type of dequantized linears where everything else is stored in `floats`.
DType linear_type(const QuantSpec& spec, DType floats);

class ChangedTensors {
 public:
  // A tensor of `linear`, or one of the other float tensors in `others`. The references must outlive this.
  using Write = std::function<void(const std::string& name, const Tensor& value)>;
  ChangedTensors(const ModelFiles& files, Ops& ops, std::unique_ptr<LinearStore> store, DType others, Write write);

  const LinearStore& store() const { return *store_; }

  // Returns ||stored - q||^2 / ||q||^2: what rounding scales or weights to the stored type adds. Exit 76 if a value
  // does not fit into float16, 2 if the format cannot hold a zero point.
  double linear(int layer, LinearRole role, const QuantizedMatrix& m);
  void folded(int layer, const BlockWeights& block);  // norms and biases

  void write(const std::string& name, const Tensor& value);  // exit 76 if it does not fit into float16

 private:
  const ModelFiles& files_;
  Ops& ops_;
  std::unique_ptr<LinearStore> store_;
  DType others_;
  Write write_;
  std::map<std::string, std::vector<QuantizedMatrix>> parts_;  // of fused linears, by tensor
};

}  // namespace ptq

// The two ways in which a checkpoint holds a quantized linear.
#include "quant/changed_tensors.h"

namespace ptq {

namespace {

class FloatStore : public LinearStore {
 public:
  explicit FloatStore(DType dtype) : dtype_(dtype) {}

  std::vector<TensorInfo> tensors(const std::string& module, std::int64_t n, std::int64_t k) const override {
    return {{module + ".weight", dtype_, {n, k}, {}}};
  }
  std::map<std::string, Tensor> store(const std::string& module, const QuantizedMatrix& m) const override {
    return {{module + ".weight", m.q.to(dtype_)}};
  }
  Tensor stored_value(const QuantizedMatrix& m) const override { return m.q.to(dtype_).to(DType::f32); }

 private:
  DType dtype_;
};

class PackedStore : public LinearStore {
 public:
  PackedStore(const PackedConfig& config, DType scales) : config_(config), scales_(scales) {}

  std::vector<TensorInfo> tensors(const std::string& module, std::int64_t n, std::int64_t k) const override {
    std::vector<TensorInfo> all;
    for (const auto& [name, tensor] : packed_tensors(config_, module, n, k)) {
      // compressed-tensors has a g_idx only where groups are not runs of columns; GPTQ's readers want it always.
      if (name.ends_with(".weight_g_idx") && !config_.act_order) continue;
      all.push_back({name, is_float(tensor.dtype) ? scales_ : tensor.dtype, tensor.shape, {}});
    }
    return all;
  }

  std::map<std::string, Tensor> store(const std::string& module, const QuantizedMatrix& m) const override {
    if (config_.format == PackedFormat::int_quantized) return pack(module, integers(m), scales_);
    if (!config_.act_order) check_runs(module, m.g_idx);
    return pack(config_, module, codes(m), scales_);
  }

  Tensor stored_value(const QuantizedMatrix& m) const override {
    return config_.format == PackedFormat::int_quantized ? dequantize(integers(m)) : dequantize(codes(m));
  }

 private:
  Int8Weight integers(const QuantizedMatrix& m) const {
    check(m.scales.numel() == m.codes.rows(), "{} scales for {} rows", m.scales.numel(), m.codes.rows());
    return {m.codes, rounded(m.scales).reshape({m.codes.rows()})};
  }
  CodedWeight codes(const QuantizedMatrix& m) const {
    return {config_.bits, m.codes, rounded(m.scales), m.zeros, m.g_idx};
  }
  Tensor rounded(const Tensor& scales) const { return scales.to(scales_).to(DType::f32); }

  // Formats without act-order know the group of a column from its number.
  void check_runs(const std::string& module, const Tensor& g_idx) const {
    const auto groups = g_idx.span<std::int32_t>();
    for (std::size_t k = 0; k < groups.size(); ++k) {
      const auto run = config_.group == -1 ? 0 : static_cast<std::int64_t>(k) / config_.group;
      check(groups[k] == run, "{}: column {} is in group {}", module, k, groups[k]);
    }
  }

  PackedConfig config_;
  DType scales_;
};

}  // namespace

std::unique_ptr<LinearStore> make_float_store(DType dtype) { return std::make_unique<FloatStore>(dtype); }

std::unique_ptr<LinearStore> make_packed_store(const PackedConfig& config, DType scales) {
  return std::make_unique<PackedStore>(config, scales);
}

}  // namespace ptq

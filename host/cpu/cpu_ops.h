// CpuOps: the CPU backend of host/ops.h. Products of linears are oneDNN's (packed_weight.h), the other products
// tile_product.h, the rest OpenMP loops. One .cpp file per group of methods, named after it.
#pragma once

#include "host/ops.h"

namespace ptq {

class CpuOps : public Ops {  // tests derive from it
 public:
  explicit CpuOps(int threads);

  std::string description() const override;

  // Memory is the host's.
  Tensor empty(DType dtype, Shape shape) override { return Tensor::empty(dtype, std::move(shape)); }
  Tensor to_device(const Tensor& host) override { return host; }
  Tensor to_host(const Tensor& device) override { return device; }
  void synchronize() override {}

  double seconds(const std::function<void()>& work) override;
  void evict_caches() override;

  std::optional<std::size_t> memory_left() const override { return std::nullopt; }
  std::unique_ptr<WeightStream> stream_weights() override {
    fail(Exit::internal, "weights of the CPU backend lie where they are used");
  }

  // layers.cpp
  void embed(const Tensor& y, const Tensor& ids, const Tensor& table, float scale) override;
  void add_rows(const Tensor& x, const Tensor& index, const Tensor& table) override;
  void norm(const Tensor& y, const Tensor& x, const Tensor& w, const Tensor& b, const NormSpec& spec) override;
  void rope(const Tensor& x, const Tensor& cos, const Tensor& sin, int heads, RopeStyle style) override;
  void activate(const Tensor& y, const Tensor& gate, const Tensor& up, Activation act) override;
  void add(const Tensor& x, const Tensor& y) override;
  void gather_rows(const Tensor& y, const Tensor& x, const Tensor& rows) override;
  std::int64_t count_nonfinite(const Tensor& x) override;

  // matmul.cpp
  WeightPtr pack(const Tensor& w, WeightFormat format) override;
  WeightPtr pack_codes(const CodedWeight& w, DType compute) override;
  void linear(const Tensor& y, const Tensor& x, const Weight& w, const Tensor& b) override;
  void linear_few(const Tensor& y, const Tensor& x, const Weight& w, const Tensor& b) override;

  // int8.cpp
  WeightPtr pack_s8(const Tensor& codes, const Tensor& scales) override;
  void row_absmax(const Tensor& absmax, const Tensor& x) override;
  Int8Rows quantize_rows(const Tensor& x, int bits, const Tensor& absmax) override;
  void fake_quantize_rows(const Tensor& y, const Tensor& x, int bits, const Tensor& absmax) override;
  void linear_s8(const Tensor& y, const Int8Rows& x, const Weight& w, const Tensor& b) override;

  // attention.cpp
  void attention(const Tensor& o, const Tensor& q, const Tensor& k, const Tensor& v, std::span<const Segment> segments,
                 const AttentionSpec& spec) override;

  // logits.cpp
  void logits(const Tensor& y, const Tensor& x, const Weight& w, const LogitSpec& spec) override;
  std::vector<double> token_logprobs(const Tensor& x, std::span<const Target> targets, const Weight& w,
                                     const LogitSpec& spec) override;

  // statistics.cpp
  void channel_sums(const ChannelSums& sums, const Tensor& x) override;
  void histogram(const Tensor& counts, const Tensor& x, double lo, double hi) override;
  double squared_difference(const Tensor& a, const Tensor& b) override;

  // gram.cpp, factor.cpp
  void gram(const Tensor& h, const Tensor& x) override;
  bool factor_inverse(const Tensor& h) override;

  // gptq.cpp
  void group_grids(const Tensor& scales, const Tensor& zeros, const Tensor& w, const GridSpec& grid,
                   std::int64_t group) override;
  void round_to_grids(const Tensor& w, const Tensor& codes, const Tensor& scales, const Tensor& zeros,
                      const Tensor& g_idx, const GridSpec& grid) override;
  void gptq_sweep(const Tensor& w, const GroupedCodes& out, const Tensor& row_error, const Tensor& u,
                  const SweepSpec& spec, bool fixed_grids, const Tensor& g_idx) override;

  // awq.cpp
  void round_scaled(const Tensor& out, const Tensor& w, const Tensor& t, const GridSpec& grid,
                    std::int64_t group) override;
  double gram_loss(const Tensor& d, const Tensor& g) override;
  void clip_search(const Tensor& clip, const Tensor& w, const Tensor& x, const GridSpec& grid,
                   std::int64_t group) override;

  // codebook.cpp
  void round_to_book(const Tensor& codes, const Tensor& absmax, const Tensor& w, CodeBook book) override;
  void fake_round_to_book(const Tensor& y, const Tensor& x, CodeBook book, std::int64_t block) override;

 private:
  int threads_;
};

}  // namespace ptq

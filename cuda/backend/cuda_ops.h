// CudaOps: host/ops.h on a GPU, and the same on the SIMT executor: this folder is compiled once against NVIDIA's
// runtime (namespace ptq::cuda) and once against the stand-in (ptq::simt). Methods check shapes, allocate and call
// launchers of cuda/*.h; one .cpp file per group of methods, named after it.
#pragma once

#include "cuda/backend/launchers.h"
#include "cuda/backend/memory.h"
#include "cuda/layers.h"
#include "cuda/stream.h"
#include "host/ops.h"

namespace ptq::cuda {

struct DeviceOptions {
  int index = 0;           // of the GPU
  std::size_t memory = 0;  // most bytes of its memory; 0: all that is free
  bool cached = true;      // keep freed blocks for the next of their size
};

class CudaOps final : public Ops {
 public:
  explicit CudaOps(const DeviceOptions& options, Launchers launchers = {});
  ~CudaOps() override;
  CudaOps(const CudaOps&) = delete;
  CudaOps& operator=(const CudaOps&) = delete;

  std::string description() const override;
  const DeviceMemory& memory() const { return *memory_; }

  // device.cpp
  Tensor empty(DType dtype, Shape shape) override;
  Tensor to_device(const Tensor& host) override;
  Tensor to_host(const Tensor& device) override;
  void synchronize() override;
  double seconds(const std::function<void()>& work) override;
  void evict_caches() override;
  void begin_range(const char* name) override;
  void end_range() override;

  // layers.cpp
  void embed(const Tensor& y, const Tensor& ids, const Tensor& table, float scale) override;
  void add_rows(const Tensor& x, const Tensor& index, const Tensor& table) override;
  void norm(const Tensor& y, const Tensor& x, const Tensor& w, const Tensor& b, const NormSpec& spec) override;
  void rope(const Tensor& x, const Tensor& cos, const Tensor& sin, int heads, RopeStyle style) override;
  void activate(const Tensor& y, const Tensor& gate, const Tensor& up, Activation act) override;
  void add(const Tensor& x, const Tensor& y) override;
  void gather_rows(const Tensor& y, const Tensor& x, const Tensor& rows) override;
  std::int64_t count_nonfinite(const Tensor& x) override;

  // linear.cpp: by the weight's format
  WeightPtr pack(const Tensor& w, WeightFormat format) override;
  void linear(const Tensor& y, const Tensor& x, const Weight& w, const Tensor& b) override;
  void linear_few(const Tensor& y, const Tensor& x, const Weight& w, const Tensor& b) override;
  void logits(const Tensor& y, const Tensor& x, const Weight& w, const LogitSpec& spec) override;
  std::vector<double> token_logprobs(const Tensor& x, std::span<const Target> targets, const Weight& w,
                                     const LogitSpec& spec) override;

  // coded.cpp
  WeightPtr pack_codes(const CodedWeight& w, DType compute) override;

  // int8.cpp
  WeightPtr pack_s8(const Tensor& codes, const Tensor& scales) override;
  void row_absmax(const Tensor& absmax, const Tensor& x) override;
  Int8Rows quantize_rows(const Tensor& x, int bits, const Tensor& absmax) override;
  void fake_quantize_rows(const Tensor& y, const Tensor& x, int bits, const Tensor& absmax) override;
  void linear_s8(const Tensor& y, const Int8Rows& x, const Weight& w, const Tensor& b) override;

  // attention.cpp
  void attention(const Tensor& o, const Tensor& q, const Tensor& k, const Tensor& v, std::span<const Segment> segments,
                 const AttentionSpec& spec) override;

  // statistics.cpp
  void channel_sums(const ChannelSums& sums, const Tensor& x) override;
  void histogram(const Tensor& counts, const Tensor& x, double lo, double hi) override;
  double squared_difference(const Tensor& a, const Tensor& b) override;

  // gram.cpp, factor.cpp
  void gram(const Tensor& h, const Tensor& x) override;
  double gram_loss(const Tensor& d, const Tensor& g) override;
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
  void clip_search(const Tensor& clip, const Tensor& w, const Tensor& x, const GridSpec& grid,
                   std::int64_t group) override;

  // codebook.cpp
  void round_to_book(const Tensor& codes, const Tensor& absmax, const Tensor& w, CodeBook book) override;
  void fake_round_to_book(const Tensor& y, const Tensor& x, CodeBook book, std::int64_t block) override;

  // weight_stream.cpp
  std::optional<std::size_t> memory_left() const override { return memory_->left(); }
  std::unique_ptr<WeightStream> stream_weights() override;

 private:
  enum class RowOp : std::int32_t { none, embed, add_rows, gather_rows };
  RowIndex row_index(const Tensor& index, const Tensor& table, RowOp op) const;

  Launchers launchers_;
  Stream stream_ = nullptr;
  std::shared_ptr<DeviceMemory> memory_;
  std::int32_t* fault_ = nullptr;  // memory of the host: the RowOp that was given a row outside of its table
  std::string name_;
  std::vector<std::string> ranges_;  // that are open: where memory ran out
  std::vector<QueryTile> tiles_;  // attention's last list of work,
  Tensor device_tiles_;           // and where the device has it
};

// Memory of this backend as T*; exit 70 if it is the host's or of another type.
template <class T>
T* device_data(const Tensor& t) {
  check(t.place() == Place::device || t.numel() == 0, "a device operation on host memory");
  check(dtype_of<T>::value == t.dtype(), "tensor is {}, accessed as {}", name_of(t.dtype()),
        name_of(dtype_of<T>::value));
  return static_cast<T*>(t.raw());
}
// The same of any type; null for an empty tensor.
inline void* device_raw(const Tensor& t) {
  check(t.place() == Place::device || t.numel() == 0, "a device operation on host memory");
  return t.raw();
}

}  // namespace ptq::cuda

// The forward pass of every family, written once against Ops.
//
// A block is four stages, each ending in a group of linears that share one input:
//     qkv -> o -> gate_up -> down
// Stream is the state between them: the residual stream h and x, the input of the stage's linears. advance() applies
// a stage's linears and prepares the next stage's input. Evaluation runs all stages in a row; the calibration walk
// (quant/) stops between them to look at x and to replace the weights, which makes true-sequential GPTQ one pass.
#pragma once

#include "host/ops.h"
#include "model/block_weights.h"
#include "model/kv_cache.h"
#include "model/linear.h"
#include "model/weight_plan.h"
#include "model/weights.h"

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace ptq {

enum class Stage : std::uint8_t { qkv, o, gate_up, down };
inline constexpr std::array all_stages{Stage::qkv, Stage::o, Stage::gate_up, Stage::down};
std::string_view name_of(Stage stage);  // "qkv", "o", "gate_up", "down"

// The linears that read the stage's x, in order: {q,k,v}, {o}, {gate,up} or {up}, {down}.
std::vector<LinearRole> roles_of(Stage stage, const ModelConfig& config);

struct Block {
  std::array<Linear, all_linear_roles.size()> linear;  // by LinearRole
  std::array<Tensor, 6> norm_weight, norm_bias;        // by NormRole
  FixedRanges ranges;                                  // of static activation quantization

  Linear& operator[](LinearRole role) { return linear[static_cast<std::size_t>(role)]; }
  const Linear& operator[](LinearRole role) const { return linear[static_cast<std::size_t>(role)]; }
};

// A packed batch: sequences end to end, see Segment.
struct Batch {
  std::vector<std::int32_t> ids;
  std::vector<Segment> segments;

  std::int64_t tokens() const { return static_cast<std::int64_t>(ids.size()); }
  // Appends a sequence (whose positions continue after segment `prefix` if >= 0) and returns its segment index.
  int append(std::span<const std::int32_t> sequence, int prefix = -1);
};

// Activations of one batch inside the network.
struct Stream {
  Batch batch;
  Tensor h;                     // residual stream [T, D]
  Tensor x;                     // input of the current stage's linears
  Tensor branch;                // parallel blocks: norm1(h), the MLP's input, kept while attention runs; else empty
  Tensor cos, sin;              // rope tables of this batch, [T, rotary/2] f32
  Tensor local_cos, local_sin;  // Gemma-3 sliding layers
  KvCache* cache = nullptr;     // decoding: what came before this batch, its only sequence
};

// What a forward pass shows on its way. x, y and h are valid during the call only.
struct Taps {
  std::function<void(const Tensor& h)> embedded;                                   // entering block 0
  std::function<void(int layer, Stage stage, const Tensor& x)> stage_input;        // before the stage's linears
  std::function<void(int layer, LinearRole role, const Tensor& y)> linear_output;  // with bias; q, k, v before rope
  std::function<void(int layer, const Tensor& h)> block_output;
  std::function<void(const Tensor& h)> final_norm;  // after the last norm
  std::function<void(const Tensor& h)> head_input;  // input of the LM head
};

// The blocks' linears in memory, without biases: how many bits a weight takes.
struct LinearMemory {
  std::size_t bytes = 0;
  std::int64_t weights = 0;

  double bits_per_weight() const { return 8.0 * static_cast<double>(bytes) / static_cast<double>(weights); }
};

class Transformer {
 public:
  // Loads positions, projections and the last norm. Blocks and the head are loaded by load_block or load_all; embedding
  // rows are read as they are needed.
  Transformer(std::shared_ptr<const ModelFiles> files, Ops& ops, DType compute);

  const ModelConfig& config() const { return files_->config(); }
  const ModelFiles& files() const { return *files_; }
  Ops& ops() const { return ops_; }
  DType compute_dtype() const { return compute_; }

  // How activations are quantized from now on: that of the files unless set. Weights loaded before stay as they are.
  void set_activations(ActivationQuant activations, IntegerProducts products = IntegerProducts::exact);
  const ActivationQuant& activations() const { return activations_; }

  // Linears come from packed codes where the files hold them. With integer activations of weight_bits > 0, linears of
  // floats become integers with a scale per row (absmax rule, spec C.4).
  Block load_block(int layer) const;
  Block load_norms(int layer) const;  // without its linears
  Linear load_linear(int layer, LinearRole role) const;
  Linear make_linear(const Tensor& weight_f32, int layer, LinearRole role) const;  // with the files' bias
  Block make_block(const BlockWeights& weights, int layer) const;
  // Where all blocks do not fit on the device beside what `run` needs, they are kept in host memory and streamed: two
  // are on the device at a time. Same bits either way. Exit 75 with the figures if even that does not fit.
  void load_all(const RunSize& run = {});
  // From now on blocks are those of `files`: the same model but for tensors of blocks (model/overlay.h). What was
  // loaded of the blocks is given back; the head and the embedding stay.
  void use_blocks_of(std::shared_ptr<const ModelFiles> files);

  // --- stages (calibration) ---
  Stream embed(Batch batch) const;                  // h of block 0; checks ids and lengths (65)
  void enter(Stream& s, const Block& block) const;  // x = input of qkv
  void advance(Stream& s, int layer, const Block& block, Stage stage, const Taps* taps = nullptr) const;

  // What AWQ compares (spec B.4), from the stage's input alone: the attention module with its output projection (stage
  // qkv; x = s.x) and the MLP with its last linear (stage gate_up). [T, D], without residual or branch norms.
  Tensor attention_module(const Stream& s, int layer, const Block& block) const;
  Tensor mlp_module(const Tensor& x, const Block& block) const;

  // --- whole network (evaluation); needs load_all ---
  Tensor forward(const Batch& batch, const Taps* taps = nullptr) const;  // h after the last block [T, D]
  Tensor logits(const Tensor& h, const Taps* taps = nullptr) const;      // f32 [T, V]
  std::vector<double> token_logprobs(const Tensor& h, std::span<const Target> targets) const;

  // --- decoding; needs load_all. The tokens `ids` follow those of the cache, which grows by them (exit 65 beyond its
  // capacity or the model's positions); returns h after the last block [ids, D]. At most few_rows rows at once take
  // linear_few. Where the frequencies of rope change with the length, the whole sequence runs again. Dynamic activation
  // ranges of a sequence are those of the tokens that run together. ---
  KvCache make_cache(std::int64_t capacity) const;
  Tensor forward_cached(std::span<const std::int32_t> ids, KvCache& cache) const;
  // logits() of at most few_rows rows, on the host; differs from it by rounding.
  Tensor decode_logits(const Tensor& h) const;

  // Do sequences of these total lengths use the same rotations? Not when rope depends on the sequence's length
  // (dynamic, longrope) and they fall into different regimes.
  bool same_rope(std::int64_t length_a, std::int64_t length_b) const;
  // May sequences of these total lengths share the computation of a prefix? Not with different rotations, nor when
  // activations are quantized with the range of their sequence.
  bool may_share_prefix(std::int64_t length_a, std::int64_t length_b) const;

  std::size_t weight_bytes() const;  // all weights
  bool streamed() const { return weight_stream_ != nullptr; }
  std::size_t device_weight_bytes() const;  // those on the device at a time
  LinearMemory linear_memory() const;

 private:
  SharedInput input(const Stream& s, const Block& block, Stage stage) const;
  Tensor run_linear(SharedInput& input, int layer, const Block& block, LinearRole role, const Taps* taps) const;
  Tensor mlp_activation(SharedInput& input, int layer, const Block& block, const Taps* taps) const;
  void normalize(const Tensor& y, const Tensor& x, const Block& block, NormRole role) const;
  Tensor normalized(const Tensor& x, const Block& block, NormRole role) const;
  Tensor attend(const Stream& s, int layer, const Block& block, const Taps* taps) const;
  Tensor append(const Tensor& cache, const Tensor& rows, std::int64_t length) const;
  void join(Stream& s, const Tensor& branch, const Block& block, NormRole in, NormRole out) const;
  void run_blocks(Stream& s, const Taps* taps) const;
  Stream embed_after(Batch batch, std::int64_t before) const;
  Tensor head_input(const Tensor& h, const Taps* taps) const;
  Tensor vector(const Tensor& t) const;

  std::shared_ptr<const ModelFiles> files_;
  Ops& ops_;
  DType compute_;
  ActivationQuant activations_;
  IntegerProducts products_ = IntegerProducts::exact;
  Tensor positions_, final_norm_weight_, final_norm_bias_;
  Linear project_in_, project_out_, head_;
  std::vector<Block> blocks_;
  std::unique_ptr<WeightStream> weight_stream_;  // of blocks_; null if they are all on the device
};

}  // namespace ptq

// The forward pass of every family, written once against Ops.
//
// A block is four stages, each ending in a group of linears that share one input:
//     qkv -> o -> gate_up -> down
// Stream is the state between them: the residual stream h and x, the input of the stage's linears. advance() applies
// a stage's linears and prepares the next stage's input. Evaluation runs all stages in a row; the calibration walk
// (quant/) stops between them to look at x and to replace the weights, which makes true-sequential GPTQ one pass.
#pragma once

#include "host/ops.h"
#include "model/weights.h"

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace ptq {

enum class Stage : std::uint8_t { qkv, o, gate_up, down };
inline constexpr std::array all_stages{Stage::qkv, Stage::o, Stage::gate_up, Stage::down};

// The linears that read the stage's x, in order: {q,k,v}, {o}, {gate,up} or {up}, {down}.
std::vector<LinearRole> roles_of(Stage stage, const ModelConfig& config);

// y = x W^T + b. Precision and weight format are data of the weight; int8 weights quantize x per token.
struct Linear {
  WeightPtr weight;
  Tensor bias;  // f32 [N] or empty

  explicit operator bool() const { return weight != nullptr; }
};

struct Block {
  std::array<Linear, all_linear_roles.size()> linear;  // by LinearRole
  std::array<Tensor, 6> norm_weight, norm_bias;        // by NormRole

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
};

// Called with each stage's input before the stage's linears run; also with every block output (see Taps).
struct Taps {
  std::function<void(const Tensor& h)> embedded;  // entering block 0
  std::function<void(int layer, Stage stage, const Tensor& x)> stage_input;
  std::function<void(int layer, const Tensor& h)> block_output;
  std::function<void(const Tensor& h)> final_norm;  // after the last norm
  std::function<void(const Tensor& h)> head_input;  // input of the LM head
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

  // int8: block linears become W8A8 (per-channel weights, per-token activations).
  Block load_block(int layer, bool int8 = false) const;
  Block load_norms(int layer) const;  // without its linears
  Linear load_linear(int layer, LinearRole role, bool int8 = false) const;
  Linear make_linear(const Tensor& weight_f32, int layer, LinearRole role, bool int8 = false) const;
  void load_all(bool int8 = false);

  // --- stages (calibration) ---
  Stream embed(Batch batch) const;                  // h of block 0; checks ids and lengths (65)
  void enter(Stream& s, const Block& block) const;  // x = input of qkv
  void advance(Stream& s, int layer, const Block& block, Stage stage) const;

  // --- whole network (evaluation); needs load_all ---
  Tensor forward(const Batch& batch, const Taps* taps = nullptr) const;  // h after the last block [T, D]
  Tensor logits(const Tensor& h, const Taps* taps = nullptr) const;      // f32 [T, V]
  std::vector<double> token_logprobs(const Tensor& h, std::span<const Target> targets) const;

  // May sequences of these total lengths share a prefix? Not when rope depends on the sequence's length
  // (dynamic, longrope) and they fall into different regimes.
  bool same_rope(std::int64_t length_a, std::int64_t length_b) const;

  std::size_t weight_bytes() const;  // resident

 private:
  void normalize(const Tensor& y, const Tensor& x, const Block& block, NormRole role) const;
  Tensor normalized(const Tensor& x, const Block& block, NormRole role) const;
  Tensor attend(const Stream& s, int layer, const Block& block) const;
  void join(Stream& s, const Tensor& branch, const Block& block, NormRole in, NormRole out) const;
  Tensor head_input(const Tensor& h, const Taps* taps) const;

  std::shared_ptr<const ModelFiles> files_;
  Ops& ops_;
  DType compute_;
  Tensor positions_, final_norm_weight_, final_norm_bias_;
  Linear project_in_, project_out_, head_;
  std::vector<Block> blocks_;
};

}  // namespace ptq

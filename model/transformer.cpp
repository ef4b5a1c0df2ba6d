#include "model/transformer.h"

#include "model/rope.h"

#include <algorithm>
#include <cstring>
#include <map>

namespace ptq {

namespace {

WeightFormat format_of(DType compute) {
  switch (compute) {
    case DType::bf16:
      return WeightFormat::bf16;
    case DType::f16:
      return WeightFormat::f16;
    default:
      return WeightFormat::f32;
  }
}

std::size_t index(NormRole role) { return static_cast<std::size_t>(role); }

// y = x W^T + b for linears that share x; int8 linears share its quantized rows too.
std::vector<Tensor> apply(Ops& ops, const Tensor& x, std::initializer_list<const Linear*> linears) {
  std::vector<Tensor> out;
  std::optional<Int8Rows> rows;
  for (const Linear* l : linears) {
    Tensor y = ops.empty(x.dtype(), {x.rows(), l->weight->out_features()});
    if (l->weight->format() == WeightFormat::s8) {
      if (!rows) rows = ops.quantize_rows(x);
      ops.linear_s8(y, *rows, *l->weight, l->bias);
    } else {
      ops.linear(y, x, *l->weight, l->bias);
    }
    out.push_back(std::move(y));
  }
  return out;
}

// Values of a gain or bias rounded to the compute dtype, kept as f32 (the contract of Ops::norm and Ops::linear).
Tensor rounded(const Tensor& t, DType compute) { return t ? t.to(compute).to(DType::f32) : t; }

}  // namespace

std::vector<LinearRole> roles_of(Stage stage, const ModelConfig& config) {
  switch (stage) {
    case Stage::qkv:
      return {LinearRole::q, LinearRole::k, LinearRole::v};
    case Stage::o:
      return {LinearRole::o};
    case Stage::gate_up:
      if (config.gated) return {LinearRole::gate, LinearRole::up};
      return {LinearRole::up};
    case Stage::down:
      return {LinearRole::down};
  }
  return {};
}

int Batch::append(std::span<const std::int32_t> sequence, int prefix) {
  const auto begin = static_cast<std::int32_t>(ids.size());
  ids.insert(ids.end(), sequence.begin(), sequence.end());
  segments.push_back({begin, static_cast<std::int32_t>(ids.size()), prefix});
  return static_cast<int>(segments.size()) - 1;
}

Transformer::Transformer(std::shared_ptr<const ModelFiles> files, Ops& ops, DType compute)
    : files_(std::move(files)), ops_(ops), compute_(compute) {
  const auto gain = [&](Tensor t) { return t ? ops_.to_device(rounded(t, compute_)) : t; };
  const auto dense = [&](const Tensor& t) { return t ? Linear{ops_.pack(t, format_of(compute_)), {}} : Linear{}; };
  if (Tensor positions = files_->position_table(compute_)) positions_ = ops_.to_device(positions);
  final_norm_weight_ = gain(files_->final_norm_weight(DType::f32));
  final_norm_bias_ = gain(files_->final_norm_bias(DType::f32));
  project_in_ = dense(files_->project_in(compute_));
  project_out_ = dense(files_->project_out(compute_));
}

Linear Transformer::make_linear(const Tensor& weight, int layer, LinearRole role, bool int8) const {
  Linear l;
  l.weight = ops_.pack(weight, int8 ? WeightFormat::s8 : format_of(compute_));
  if (Tensor bias = files_->linear_bias(layer, role, DType::f32)) l.bias = ops_.to_device(rounded(bias, compute_));
  return l;
}

Linear Transformer::load_linear(int layer, LinearRole role, bool int8) const {
  // int8 codes come from the stored weight: bf16 in between would move some of them.
  return make_linear(files_->linear_weight(layer, role, int8 ? DType::f32 : compute_), layer, role, int8);
}

Block Transformer::load_block(int layer, bool int8) const {
  Block block = load_norms(layer);
  for (LinearRole role : all_linear_roles) {
    if (files_->has_linear(role)) block[role] = load_linear(layer, role, int8);
  }
  return block;
}

Block Transformer::load_norms(int layer) const {
  Block block;
  for (NormRole role : {NormRole::attention_in, NormRole::attention_out, NormRole::mlp_in, NormRole::mlp_out,
                        NormRole::q, NormRole::k}) {
    if (Tensor w = files_->norm_weight(layer, role, DType::f32))
      block.norm_weight[index(role)] = ops_.to_device(rounded(w, compute_));
    if (Tensor b = files_->norm_bias(layer, role, DType::f32))
      block.norm_bias[index(role)] = ops_.to_device(rounded(b, compute_));
  }
  return block;
}

void Transformer::load_all(bool int8) {
  blocks_.clear();
  for (int i = 0; i < config().layers; ++i) blocks_.push_back(load_block(i, int8));
  if (!head_) head_ = Linear{ops_.pack(files_->head(compute_), format_of(compute_)), {}};
}

Stream Transformer::embed(Batch batch) const {
  const ModelConfig& c = config();
  require(!batch.ids.empty(), Exit::data, "no tokens to run");
  for (std::size_t i = 0; i < batch.ids.size(); ++i) {
    require(batch.ids[i] >= 0 && batch.ids[i] < c.vocab, Exit::data,
            "token id {} at position {} is outside the vocabulary of {} entries", batch.ids[i], i, c.vocab);
  }
  std::vector<std::int32_t> position(batch.ids.size());
  for (const Segment& s : batch.segments) {
    const std::int64_t first = first_position(batch.segments, s);
    require(c.position != PositionKind::learned || first + s.end - s.begin <= c.max_position, Exit::data,
            "a sequence of {} tokens exceeds the model's {} positions; use a shorter --seqlen", first + s.end - s.begin,
            c.max_position);
    for (std::int32_t t = s.begin; t < s.end; ++t)
      position[static_cast<std::size_t>(t)] = static_cast<std::int32_t>(first) + t - s.begin + 2;  // OPT's offset
  }

  // Only the rows in use are read from the file, so that a tied embedding is not resident twice.
  std::map<std::int32_t, std::int32_t> rank;
  for (std::int32_t id : batch.ids) rank.emplace(id, 0);
  Tensor table = Tensor::empty(compute_, {static_cast<std::int64_t>(rank.size()), c.embed_width});
  std::int32_t next = 0;
  for (auto& [id, r] : rank) {
    r = next++;
    const Tensor row = files_->embedding_row(id, compute_);
    std::memcpy(table.slice_rows(r, r + 1).raw(), row.raw(), row.bytes());
  }
  std::vector<std::int32_t> slot(batch.ids.size());
  std::transform(batch.ids.begin(), batch.ids.end(), slot.begin(), [&](std::int32_t id) { return rank.at(id); });

  const auto tokens = batch.tokens();
  Stream s;
  s.h = ops_.empty(compute_, {tokens, c.embed_width});
  const float scale = rounded(Tensor::of<float>({c.embed_scale}, {1}), compute_).data<float>()[0];
  ops_.embed(s.h, ops_.to_device(Tensor::of(slot, {tokens})), ops_.to_device(table), scale);
  if (project_in_) s.h = apply(ops_, s.h, {&project_in_})[0];
  if (positions_) ops_.add_rows(s.h, ops_.to_device(Tensor::of(position, {tokens})), positions_);
  if (c.position == PositionKind::rope) {
    const DType rounding = c.rope_in_fp32 ? DType::f32 : compute_;
    const auto tables = [&](const RopeSpec& spec, Tensor& cos, Tensor& sin) {
      RopeTables t = rope_tables(spec, batch.segments, tokens, c.max_position, rounding);
      cos = ops_.to_device(t.cos);
      sin = ops_.to_device(t.sin);
    };
    tables(c.rope, s.cos, s.sin);
    if (std::any_of(c.layer.begin(), c.layer.end(), [](const LayerSpec& l) { return l.local_rope; }))
      tables(c.local_rope, s.local_cos, s.local_sin);
  }
  s.batch = std::move(batch);
  return s;
}

void Transformer::normalize(const Tensor& y, const Tensor& x, const Block& block, NormRole role) const {
  ops_.norm(y, x, block.norm_weight[index(role)], block.norm_bias[index(role)], config().norm);
}

Tensor Transformer::normalized(const Tensor& x, const Block& block, NormRole role) const {
  Tensor y = ops_.empty(x.dtype(), x.shape());
  normalize(y, x, block, role);
  return y;
}

void Transformer::enter(Stream& s, const Block& block) const {
  const bool norm_first = config().block != BlockKind::post_norm && config().block != BlockKind::output_norm;
  s.x = norm_first ? normalized(s.h, block, NormRole::attention_in) : s.h;
  s.branch = config().block == BlockKind::parallel ? s.x : Tensor{};
}

Tensor Transformer::attend(const Stream& s, int layer, const Block& block) const {
  const ModelConfig& c = config();
  auto qkv = apply(ops_, s.x, {&block[LinearRole::q], &block[LinearRole::k], &block[LinearRole::v]});
  const LayerSpec& spec = c.layer[static_cast<std::size_t>(layer)];
  const auto prepare = [&](Tensor& x, NormRole role, int heads) {  // q/k norm, then rope
    if (c.qk_norm != QkNorm::none) {
      const Tensor& gain = block.norm_weight[index(role)];
      const Tensor view = c.qk_norm == QkNorm::full_width ? x : x.reshape({x.rows() * heads, c.head_dim});
      ops_.norm(view, view, gain.reshape({gain.numel() / view.cols(), view.cols()}), {}, c.qk_norm_spec);
    }
    if (c.position == PositionKind::rope && spec.rope)
      ops_.rope(x, spec.local_rope ? s.local_cos : s.cos, spec.local_rope ? s.local_sin : s.sin, heads, c.rope_style);
  };
  prepare(qkv[0], NormRole::q, c.heads);
  prepare(qkv[1], NormRole::k, c.kv_heads);
  Tensor o = ops_.empty(compute_, {s.x.rows(), c.q_width()});
  ops_.attention(o, qkv[0], qkv[1], qkv[2], s.batch.segments,
                 {.heads = c.heads,
                  .kv_heads = c.kv_heads,
                  .head_dim = c.head_dim,
                  .scale = c.attention_scale,
                  .soft_cap = c.attention_soft_cap,
                  .window = spec.window});
  return o;
}

// h takes a branch's output: the norms before and after the addition depend on the kind of block.
void Transformer::join(Stream& s, const Tensor& branch, const Block& block, NormRole in, NormRole out) const {
  const BlockKind kind = config().block;
  if (kind == BlockKind::sandwich || kind == BlockKind::output_norm) normalize(branch, branch, block, out);
  ops_.add(s.h, branch);
  if (kind == BlockKind::post_norm) normalize(s.h, s.h, block, in);
}

void Transformer::advance(Stream& s, int layer, const Block& block, Stage stage) const {
  const ModelConfig& c = config();
  switch (stage) {
    case Stage::qkv:
      s.x = attend(s, layer, block);
      break;
    case Stage::o: {
      join(s, apply(ops_, s.x, {&block[LinearRole::o]})[0], block, NormRole::attention_in, NormRole::attention_out);
      const bool norm_next = c.block == BlockKind::pre_norm || c.block == BlockKind::sandwich;
      if (c.block == BlockKind::parallel)
        s.x = std::move(s.branch);
      else
        s.x = norm_next ? normalized(s.h, block, NormRole::mlp_in) : s.h;
      break;
    }
    case Stage::gate_up: {
      if (c.gated) {
        auto pair = apply(ops_, s.x, {&block[LinearRole::gate], &block[LinearRole::up]});
        ops_.activate(pair[0], pair[0], pair[1], c.activation);
        s.x = std::move(pair[0]);
      } else {
        s.x = apply(ops_, s.x, {&block[LinearRole::up]})[0];
        ops_.activate(s.x, s.x, {}, c.activation);
      }
      break;
    }
    case Stage::down: {
      join(s, apply(ops_, s.x, {&block[LinearRole::down]})[0], block, NormRole::mlp_in, NormRole::mlp_out);
      s.x = {};
      break;
    }
  }
}

Tensor Transformer::forward(const Batch& batch, const Taps* taps) const {
  check(static_cast<int>(blocks_.size()) == config().layers, "forward before load_all");
  Stream s = embed(batch);
  if (taps && taps->embedded) taps->embedded(s.h);
  for (int i = 0; i < config().layers; ++i) {
    const Block& block = blocks_[static_cast<std::size_t>(i)];
    enter(s, block);
    for (Stage stage : all_stages) {
      if (taps && taps->stage_input) taps->stage_input(i, stage, s.x);
      advance(s, i, block, stage);
    }
    if (taps && taps->block_output) taps->block_output(i, s.h);
  }
  return s.h;
}

Tensor Transformer::head_input(const Tensor& h, const Taps* taps) const {
  Tensor x = h;
  if (final_norm_weight_) {
    x = ops_.empty(h.dtype(), h.shape());
    ops_.norm(x, h, final_norm_weight_, final_norm_bias_, config().norm);
    if (taps && taps->final_norm) taps->final_norm(x);
  }
  if (project_out_) x = apply(ops_, x, {&project_out_})[0];
  if (taps && taps->head_input) taps->head_input(x);
  return x;
}

Tensor Transformer::logits(const Tensor& h, const Taps* taps) const {
  const Tensor x = head_input(h, taps);
  Tensor y = ops_.empty(DType::f32, {h.rows(), config().vocab});
  ops_.logits(y, x, *head_.weight, config().logits);
  return y;
}

std::vector<double> Transformer::token_logprobs(const Tensor& h, std::span<const Target> targets) const {
  // The last norm and the head run only on rows that are scored.
  std::map<std::int32_t, std::int32_t> rank;
  for (const Target& t : targets) rank.emplace(t.row, 0);
  std::vector<std::int32_t> rows;
  for (auto& [row, r] : rank) {
    r = static_cast<std::int32_t>(rows.size());
    rows.push_back(row);
  }
  if (rows.empty()) return {};
  std::vector<Target> compact(targets.begin(), targets.end());
  for (Target& t : compact) t.row = rank.at(t.row);
  const auto n = static_cast<std::int64_t>(rows.size());
  Tensor scored = ops_.empty(h.dtype(), {n, h.cols()});
  ops_.gather_rows(scored, h, ops_.to_device(Tensor::of(rows, {n})));
  return ops_.token_logprobs(head_input(scored, nullptr), compact, *head_.weight, config().logits);
}

bool Transformer::same_rope(std::int64_t a, std::int64_t b) const {
  const ModelConfig& c = config();
  return c.position != PositionKind::rope ||
         (same_frequencies(c.rope, a, b, c.max_position) && same_frequencies(c.local_rope, a, b, c.max_position));
}

std::size_t Transformer::weight_bytes() const {
  std::size_t bytes = 0;
  const auto count = [&](const Linear& l) {
    if (l) bytes += l.weight->bytes();
    if (l.bias) bytes += l.bias.bytes();
  };
  for (const Linear* l : {&project_in_, &project_out_, &head_}) count(*l);
  for (const Tensor* t : {&positions_, &final_norm_weight_, &final_norm_bias_}) {
    if (*t) bytes += t->bytes();
  }
  for (const Block& block : blocks_) {
    for (const Linear& l : block.linear) count(l);
    for (const auto& tensors : {block.norm_weight, block.norm_bias}) {
      for (const Tensor& t : tensors) {
        if (t) bytes += t.bytes();
      }
    }
  }
  return bytes;
}

}  // namespace ptq

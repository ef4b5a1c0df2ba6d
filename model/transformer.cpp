#include "model/transformer.h"

#include "host/range.h"
#include "model/rope.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <numeric>

namespace ptq {

namespace {

std::size_t index(NormRole role) { return static_cast<std::size_t>(role); }

}  // namespace

std::string_view name_of(Stage stage) {
  constexpr std::array<std::string_view, all_stages.size()> names{"qkv", "o", "gate_up", "down"};
  return names.at(static_cast<std::size_t>(stage));
}

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

Stream Transformer::embed(Batch batch) const { return embed_after(std::move(batch), 0); }

// `before`: tokens that precede the batch's only sequence.
Stream Transformer::embed_after(Batch batch, std::int64_t before) const {
  const Range range(ops_, "embed");
  const ModelConfig& c = config();
  require(!batch.ids.empty(), Exit::data, "no tokens to run");
  for (std::size_t i = 0; i < batch.ids.size(); ++i) {
    require(batch.ids[i] >= 0 && batch.ids[i] < c.vocab, Exit::data,
            "token id {} at position {} is outside the vocabulary of {} entries", batch.ids[i], i, c.vocab);
  }
  std::vector<std::int32_t> position(batch.ids.size());
  for (const Segment& s : batch.segments) {
    const std::int64_t first = before + first_position(batch.segments, s);
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
  const float scale = Tensor::of<float>({c.embed_scale}, {1}).to(compute_).to(DType::f32).data<float>()[0];
  ops_.embed(s.h, ops_.to_device(Tensor::of(slot, {tokens})), ops_.to_device(table), scale);
  if (project_in_) s.h = SharedInput(ops_, s.h, no_quantization).apply(project_in_);
  if (positions_) ops_.add_rows(s.h, ops_.to_device(Tensor::of(position, {tokens})), positions_);
  if (c.position == PositionKind::rope) {
    const DType rounding = c.rope_in_fp32 ? DType::f32 : compute_;
    const auto tables = [&](const RopeSpec& spec, Tensor& cos, Tensor& sin) {
      RopeTables t = rope_tables(spec, batch.segments, tokens, c.max_position, rounding, before);
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

// The stage's input on its way into the linears.
SharedInput Transformer::input(const Stream& s, const Block& block, Stage stage) const {
  return SharedInput(ops_, s.x, activations_, block.ranges.input[static_cast<std::size_t>(stage)], s.batch.segments,
                     s.cache != nullptr && s.x.rows() <= few_rows);
}

Tensor Transformer::run_linear(SharedInput& input, int layer, const Block& block, LinearRole role,
                               const Taps* taps) const {
  Tensor y = input.apply(block[role]);
  if (taps && taps->linear_output) taps->linear_output(layer, role, y);
  return y;
}

Tensor Transformer::attend(const Stream& s, int layer, const Block& block, const Taps* taps) const {
  const ModelConfig& c = config();
  SharedInput x = input(s, block, Stage::qkv);
  std::array<Tensor, 3> qkv;
  for (std::size_t i = 0; i < qkv.size(); ++i) {
    qkv[i] = run_linear(x, layer, block, all_linear_roles[i], taps);
    if (activations_.bmm) fake_quantize(ops_, qkv[i], qkv[i], activations_, block.ranges.qkv[i], s.batch.segments);
  }
  const LayerSpec& spec = c.layer[static_cast<std::size_t>(layer)];
  const auto prepare = [&](const Tensor& y, NormRole role, int heads) {  // q/k norm, then rope
    if (c.qk_norm != QkNorm::none) {
      const Tensor& gain = block.norm_weight[index(role)];
      const Tensor view = c.qk_norm == QkNorm::full_width ? y : y.reshape({y.rows() * heads, c.head_dim});
      ops_.norm(view, view, gain.reshape({gain.numel() / view.cols(), view.cols()}), {}, c.qk_norm_spec);
    }
    if (c.position == PositionKind::rope && spec.rope)
      ops_.rope(y, spec.local_rope ? s.local_cos : s.cos, spec.local_rope ? s.local_sin : s.sin, heads, c.rope_style);
  };
  prepare(qkv[0], NormRole::q, c.heads);
  prepare(qkv[1], NormRole::k, c.kv_heads);
  std::span<const Segment> segments = s.batch.segments;
  const auto rows = static_cast<std::int32_t>(s.x.rows());
  Segment whole{0, rows, -1};
  if (s.cache) {
    whole.end += static_cast<std::int32_t>(s.cache->length());
    qkv[1] = append(s.cache->k[static_cast<std::size_t>(layer)], qkv[1], s.cache->length());
    qkv[2] = append(s.cache->v[static_cast<std::size_t>(layer)], qkv[2], s.cache->length());
    segments = {&whole, 1};
  }
  const Range range(ops_, "attention");
  Tensor o = ops_.empty(compute_, {rows, c.q_width()});
  ops_.attention(o, qkv[0], qkv[1], qkv[2], segments,
                 {.heads = c.heads,
                  .kv_heads = c.kv_heads,
                  .head_dim = c.head_dim,
                  .scale = c.attention_scale,
                  .soft_cap = c.attention_soft_cap,
                  .window = spec.window});
  return o;
}

// Writes rows into the cache after its first `length`; returns everything so far.
Tensor Transformer::append(const Tensor& cache, const Tensor& rows, std::int64_t length) const {
  std::vector<std::int32_t> order(static_cast<std::size_t>(rows.rows()));
  std::iota(order.begin(), order.end(), 0);
  const std::int64_t end = length + rows.rows();
  ops_.gather_rows(cache.slice_rows(length, end), rows, ops_.to_device(Tensor::of(order, {rows.rows()})));
  return cache.slice_rows(0, end);
}

// act(gate) * up, or act(up): the input of the MLP's last linear.
Tensor Transformer::mlp_activation(SharedInput& x, int layer, const Block& block, const Taps* taps) const {
  const Tensor first = run_linear(x, layer, block, config().gated ? LinearRole::gate : LinearRole::up, taps);
  const Tensor second = config().gated ? run_linear(x, layer, block, LinearRole::up, taps) : Tensor();
  ops_.activate(first, first, second, config().activation);
  return first;
}

Tensor Transformer::attention_module(const Stream& s, int layer, const Block& block) const {
  const Tensor o = attend(s, layer, block, nullptr);
  return SharedInput(ops_, o, activations_, block.ranges.input[static_cast<std::size_t>(Stage::o)], s.batch.segments)
      .apply(block[LinearRole::o]);
}

Tensor Transformer::mlp_module(const Tensor& x, const Block& block) const {
  check(!spans_sequence(activations_), "an MLP alone has no sequences for activation ranges");
  const auto range = [&](Stage stage) { return block.ranges.input[static_cast<std::size_t>(stage)]; };
  SharedInput first(ops_, x, activations_, range(Stage::gate_up));
  const Tensor hidden = mlp_activation(first, 0, block, nullptr);
  return SharedInput(ops_, hidden, activations_, range(Stage::down)).apply(block[LinearRole::down]);
}

// h takes a branch's output: the norms before and after the addition depend on the kind of block.
void Transformer::join(Stream& s, const Tensor& branch, const Block& block, NormRole in, NormRole out) const {
  const BlockKind kind = config().block;
  if (kind == BlockKind::sandwich || kind == BlockKind::output_norm) normalize(branch, branch, block, out);
  ops_.add(s.h, branch);
  if (kind == BlockKind::post_norm) normalize(s.h, s.h, block, in);
}

void Transformer::advance(Stream& s, int layer, const Block& block, Stage stage, const Taps* taps) const {
  const Range range(ops_, "{}", name_of(stage));
  const BlockKind kind = config().block;
  if (taps && taps->stage_input) taps->stage_input(layer, stage, s.x);
  if (stage == Stage::qkv) {
    s.x = attend(s, layer, block, taps);
    return;
  }
  SharedInput x = input(s, block, stage);
  switch (stage) {
    case Stage::qkv:
      break;
    case Stage::o: {
      join(s, run_linear(x, layer, block, LinearRole::o, taps), block, NormRole::attention_in, NormRole::attention_out);
      const bool norm_next = kind == BlockKind::pre_norm || kind == BlockKind::sandwich;
      if (kind == BlockKind::parallel)
        s.x = std::move(s.branch);
      else
        s.x = norm_next ? normalized(s.h, block, NormRole::mlp_in) : s.h;
      break;
    }
    case Stage::gate_up:
      s.x = mlp_activation(x, layer, block, taps);
      break;
    case Stage::down:
      join(s, run_linear(x, layer, block, LinearRole::down, taps), block, NormRole::mlp_in, NormRole::mlp_out);
      s.x = {};
      break;
  }
}

void Transformer::run_blocks(Stream& s, const Taps* taps) const {
  check(static_cast<int>(blocks_.size()) == config().layers, "forward before load_all");
  if (taps && taps->embedded) taps->embedded(s.h);
  for (int i = 0; i < config().layers; ++i) {
    const Range range(ops_, "block {}", i);
    const Block& block = blocks_[static_cast<std::size_t>(i)];
    if (weight_stream_) weight_stream_->enter(i);
    enter(s, block);
    for (Stage stage : all_stages) advance(s, i, block, stage, taps);
    if (taps && taps->block_output) taps->block_output(i, s.h);
  }
}

Tensor Transformer::forward(const Batch& batch, const Taps* taps) const {
  Stream s = embed(batch);
  run_blocks(s, taps);
  return s.h;
}

Tensor Transformer::head_input(const Tensor& h, const Taps* taps) const {
  Tensor x = h;
  if (final_norm_weight_) {
    x = ops_.empty(h.dtype(), h.shape());
    ops_.norm(x, h, final_norm_weight_, final_norm_bias_, config().norm);
    if (taps && taps->final_norm) taps->final_norm(x);
  }
  if (project_out_) x = SharedInput(ops_, x, no_quantization).apply(project_out_);
  if (taps && taps->head_input) taps->head_input(x);
  return x;
}

Tensor Transformer::logits(const Tensor& h, const Taps* taps) const {
  const Range range(ops_, "head");
  const Tensor x = head_input(h, taps);
  Tensor y = ops_.empty(DType::f32, {h.rows(), config().vocab});
  ops_.logits(y, x, *head_.weight, config().logits);
  return y;
}

std::vector<double> Transformer::token_logprobs(const Tensor& h, std::span<const Target> targets) const {
  const Range range(ops_, "head");
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

bool Transformer::may_share_prefix(std::int64_t a, std::int64_t b) const {
  return !spans_sequence(activations_) && same_rope(a, b);
}

}  // namespace ptq

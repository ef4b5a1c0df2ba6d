#include "quant/walk.h"

#include "host/range.h"
#include "quant/quantized_matrix.h"

#include <chrono>
#include <optional>

namespace ptq {

namespace {

// Windows as packed batches of at most `chunk_tokens` (or one window), entered into the network.
std::vector<Stream> embed_windows(const Transformer& model, std::span<const Window> windows, std::int64_t chunk_tokens,
                                  Seconds& seconds) {
  require(!windows.empty(), Exit::data, "the calibration set holds no windows");
  std::vector<Stream> streams;
  Batch batch;
  const auto flush = [&] {
    timed(model.ops(), seconds.forward, [&] { streams.push_back(model.embed(std::move(batch))); });
    batch = {};
  };
  for (const Window& window : windows) {
    require(!window.empty(), Exit::data, "a calibration window is empty");
    const auto length = static_cast<std::int64_t>(window.size());
    if (batch.tokens() > 0 && batch.tokens() + length > chunk_tokens) flush();
    batch.append(window);
  }
  flush();
  return streams;
}

void resume(const Transformer& model, std::vector<Stream>& streams, const WalkPart& part) {
  if (part.first == 0) return;
  check(part.h.size() == streams.size(), "hidden states of {} streams for {}", part.h.size(), streams.size());
  for (std::size_t i = 0; i < streams.size(); ++i) {
    check(part.h[i].shape() == streams[i].h.shape() && part.h[i].dtype() == streams[i].h.dtype(),
          "hidden states of other windows");
    streams[i].h = model.ops().to_device(part.h[i]);
  }
}

// Runs the windows through one model; the members are what all steps share.
class Walk {
 public:
  Walk(const Transformer& model, const WalkSpec& spec, const StageQuantizer& quantize, Seconds& seconds,
       const ProgressFn& progress)
      : model_(model), spec_(spec), quantize_(quantize), seconds_(seconds), progress_(progress) {}

  void embed(std::span<const Window> windows, const WalkPart& part) {
    streams_ = embed_windows(model_, windows, spec_.chunk_tokens, seconds_);
    resume(model_, streams_, part);
  }

  std::span<const Stream> streams() const { return streams_; }

  void block(int layer) {
    const Range range(model_.ops(), "block {}", layer);
    // True-sequential replaces every linear before it is used: the full-precision ones are not needed.
    Block block = timed(model_.ops(), seconds_.load,
                        [&] { return spec_.true_sequential ? model_.load_norms(layer) : model_.load_block(layer); });
    if (spec_.true_sequential) {
      staged(layer, block);
    } else {
      two_passes(layer, block);
    }
  }

 private:
  bool last(int layer) const { return layer + 1 == model_.config().layers; }

  // Parallel blocks: attention and MLP read the same normalised input.
  bool shares_qkv_input(Stage stage) const {
    return stage == Stage::gate_up && model_.config().block == BlockKind::parallel;
  }

  void staged(int layer, Block& block) {
    for (Stream& s : streams_) timed_forward([&] { model_.enter(s, block); });
    for (Stage stage : all_stages) {
      std::optional<Hessian> hessian;
      if (!shares_qkv_input(stage)) {
        for (const Stream& s : streams_) accumulate(layer, stage, s, hessian);
      }
      quantize_(layer, stage, hessian ? &*hessian : nullptr, block);
      hessian.reset();
      if (!(last(layer) && stage == Stage::down)) {
        for (Stream& s : streams_) timed_forward([&] { model_.advance(s, layer, block, stage); });
      }
      report(layer, stage);
    }
  }

  void two_passes(int layer, Block& block) {
    std::array<std::optional<Hessian>, all_stages.size()> hessians;
    for (Stream& s : streams_) {
      const Tensor before = copy_of(s.h);
      timed_forward([&] { model_.enter(s, block); });
      for (Stage stage : all_stages) {
        if (!shares_qkv_input(stage)) accumulate(layer, stage, s, hessians[static_cast<std::size_t>(stage)]);
        if (stage != Stage::down) timed_forward([&] { model_.advance(s, layer, block, stage); });
      }
      s.h = before;
      s.x = s.branch = {};
    }
    for (Stage stage : all_stages) {
      auto& hessian = hessians[static_cast<std::size_t>(stage)];
      quantize_(layer, stage, hessian ? &*hessian : nullptr, block);
      hessian.reset();
      report(layer, stage);
    }
    if (last(layer)) return;
    for (Stream& s : streams_) {
      timed_forward([&] {
        model_.enter(s, block);
        for (Stage stage : all_stages) model_.advance(s, layer, block, stage);
      });
    }
  }

  void accumulate(int layer, Stage stage, const Stream& s, std::optional<Hessian>& hessian) {
    const Range of_stage(model_.ops(), "{}", name_of(stage)), step(model_.ops(), "hessian");
    timed(model_.ops(), seconds_.hessian, [&] {
      require_finite(model_.ops(), s.x, fmt::format("layer {}, input of {}", layer, name_of(stage)));
      if (!hessian) hessian.emplace(model_.ops(), s.x.cols());
      hessian->add(s.x, static_cast<std::int64_t>(s.batch.segments.size()));
    });
  }

  // advance() may work on h in place, so a view would not keep the old values.
  Tensor copy_of(const Tensor& t) const {
    Ops& ops = model_.ops();
    return ops.to_device(ops.to_host(t).clone());
  }

  template <class Step>
  void timed_forward(const Step& step) {
    timed(model_.ops(), seconds_.forward, step);
  }

  void report(int layer, Stage stage) const {
    if (!progress_) return;
    const auto stages = static_cast<std::int64_t>(all_stages.size());
    const int layers = model_.config().layers;
    progress_(fmt::format("layer {}/{} {}", layer + 1, layers, name_of(stage)),
              layer * stages + static_cast<std::int64_t>(stage) + 1, layers * stages);
  }

  const Transformer& model_;
  const WalkSpec& spec_;
  const StageQuantizer& quantize_;
  Seconds& seconds_;
  const ProgressFn& progress_;
  std::vector<Stream> streams_;
};

}  // namespace

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Seconds& Seconds::operator+=(const Seconds& other) {
  load += other.load;
  forward += other.forward;
  hessian += other.hessian;
  factor += other.factor;
  sweep += other.sweep;
  search += other.search;
  write += other.write;
  return *this;
}

void calibration_walk(const Transformer& model, std::span<const Window> windows, const WalkSpec& spec,
                      const StageQuantizer& quantize, Seconds& seconds, const ProgressFn& progress,
                      const WalkPart& part) {
  Walk walk(model, spec, quantize, seconds, progress);
  walk.embed(windows, part);
  const int layers = model.config().layers;
  for (int layer = part.first; layer < layers; ++layer) {
    walk.block(layer);
    if (part.after && layer + 1 < layers) part.after(layer + 1, walk.streams());
  }
}

void full_precision_walk(const Transformer& model, std::span<const Window> windows, std::int64_t chunk_tokens,
                         const BlockVisitor& visit, Seconds& seconds, const ProgressFn& progress,
                         const WalkPart& part) {
  std::vector<Stream> streams = embed_windows(model, windows, chunk_tokens, seconds);
  resume(model, streams, part);
  const int layers = model.config().layers;
  for (int layer = part.first; layer < layers; ++layer) {
    const Range range(model.ops(), "block {}", layer);
    const Block block = timed(model.ops(), seconds.load, [&] { return model.load_block(layer); });
    for (Stream& s : streams) timed(model.ops(), seconds.forward, [&] { model.enter(s, block); });
    visit(layer, block, streams);
    if (progress) progress(fmt::format("layer {}/{}", layer + 1, layers), layer + 1, layers);
    if (part.after && layer + 1 < layers) part.after(layer + 1, streams);
  }
}

}  // namespace ptq

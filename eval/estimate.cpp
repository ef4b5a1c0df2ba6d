#include "eval/estimate.h"

#include <algorithm>
#include <array>
#include <map>

namespace ptq {

namespace {

// Sizes of what is evaluated, with a Llama tokenizer: within a few tens of percent with others.
constexpr double wikitext2_tokens = 330000, bytes_of_token = 3.5, bytes_of_document = 150;
struct TaskSize {
  double documents, tokens;  // tokens: of a document, its choices included
};
TaskSize size_of_task(const GridMetric& metric, double bytes) {
  static const std::map<std::string, TaskSize> known{
      {"arc_challenge", {1172, 85}}, {"piqa", {1838, 85}}, {"winogrande", {1267, 60}}};
  const auto found = known.find(metric.source);
  TaskSize size = found == known.end() ? TaskSize{500, 80} : found->second;
  if (bytes > 0) size = {bytes / bytes_of_document, bytes_of_document / bytes_of_token};
  if (metric.limit > 0) size.documents = std::min(size.documents, static_cast<double>(metric.limit));
  return size;
}

struct Linears {
  double n, k;
};

// Everything that the counts below need, as doubles.
class Counter {
 public:
  Counter(const ModelShape& s, DType compute) : s_(s), element_(static_cast<double>(size_of(compute))) {
    d_ = static_cast<double>(s.width);
    f_ = static_cast<double>(s.ffn);
    layers_ = static_cast<double>(s.layers);
    q_ = static_cast<double>(s.heads * s.head_dim);
    kv_ = static_cast<double>(s.kv_heads * s.head_dim);
    vocab_ = static_cast<double>(s.vocab);
    stages_ = {{{q_ + 2 * kv_, d_}, {d_, q_}, {(s.gated ? 2 : 1) * f_, d_}, {d_, f_}}};
    for (const Linears& l : stages_) block_ += l.n * l.k;
  }

  double block() const { return block_; }
  double element() const { return element_; }
  double head_bytes() const { return vocab_ * d_ * element_; }
  double model_bytes(double element) const { return layers_ * block_ * element; }

  double forward(double tokens, double length) const {
    return layers_ * tokens * (2 * block_ + 2 * length * q_);  // causal: half of QK^T and PV
  }
  double head(double rows) const { return 2 * rows * vocab_ * d_; }
  double hessians(double tokens) const {
    double sum = 0;
    for (const Linears& l : stages_) sum += tokens * l.k * l.k;
    return layers_ * sum;
  }
  double sweeps() const {
    double sum = 0;
    for (const Linears& l : stages_) sum += l.n * l.k * l.k + l.k * l.k * l.k;
    return layers_ * sum;
  }
  // Every ratio runs attention and MLP again, or a linear through its Gram matrix; then clipping.
  double awq(double tokens, double length) const {
    const double ratios = 20, sampled = 768;
    double linears = 0;
    for (const Linears& l : {stages_[1], stages_[3]}) linears += tokens * l.k * l.k + ratios * 2 * l.n * l.k * l.k;
    return ratios * forward(tokens, length) + layers_ * (linears + ratios * sampled * block_);
  }

  // Activations of all calibration windows between blocks, and what one chunk needs inside a block.
  double streams(double tokens, double copies) const { return copies * tokens * d_ * element_; }
  double inside(double tokens) const { return element_ * tokens * (4 * d_ + std::max(2 * q_ + 2 * kv_, 3 * f_)); }
  double widest() const { return std::max({d_, q_, f_}); }

  double linears() const { return layers_ * (s_.gated ? 7 : 6); }
  double width() const { return d_; }
  double layers() const { return layers_; }

 private:
  const ModelShape& s_;
  double element_, d_ = 0, f_ = 0, layers_ = 0, q_ = 0, kv_ = 0, vocab_ = 0, block_ = 0;
  std::array<Linears, 4> stages_;
};

constexpr double chunk_tokens = 4096;

double windows_of(const GridSet& set) {
  const bool flores = set.request.set.starts_with("flores:");
  return static_cast<double>(set.request.samples.value_or(flores ? 32 : default_samples));
}

void add_evaluation(const Grid& grid, const GridCell& cell, const Counter& c, std::span<const double> metric_bytes,
                    CellCost& cost) {
  for (const std::size_t m : cell.metrics) {
    const GridMetric& metric = grid.metrics[m];
    const double bytes = m < metric_bytes.size() ? metric_bytes[m] : 0;
    if (metric.perplexity) {
      const auto length = static_cast<double>(metric.seqlen);
      const double whole = bytes > 0 ? bytes / bytes_of_token : wikitext2_tokens;
      const double tokens = metric.windows > 0 ? static_cast<double>(metric.windows) * length : whole;
      cost.products += c.forward(tokens, length) + c.head(tokens);
      cost.result += 20 * tokens / length;
    } else {
      const TaskSize size = size_of_task(metric, bytes);
      const double tokens = size.documents * size.tokens;
      cost.products += c.forward(tokens, size.tokens) + c.head(tokens / 4);
      cost.result += 2 * size.documents;
    }
  }
}

}  // namespace

double block_weights(const ModelShape& shape) { return Counter(shape, DType::f32).block(); }

CellCost cost_of(const Grid& grid, const GridCell& cell, const ModelShape& shape, DType compute,
                 std::span<const double> metric_bytes) {
  const Counter c(shape, compute);
  CellCost cost;
  cost.result = 4096;
  double tokens = 0, length = 0, copies = 2;
  if (cell.set) {
    length = static_cast<double>(grid.set[*cell.set].request.seqlen);
    tokens = windows_of(grid.set[*cell.set]) * length;
  }
  // One block in f32 as it is read, quantized and dequantized.
  const double block = c.block() * (4 + 4 + 1 + c.element());
  double beside = 0;  // while a block is calibrated
  double changed = 0;
  if (cell.study) {
    const ActivationSpec& spec = grid.study[*cell.study];
    cost.products = c.forward(tokens, length);
    const double sums = 2 * c.layers() * (2 * c.width() * 48 + 4 * static_cast<double>(spec.bins) * 8);
    cost.result += sums + 2 * 2 * c.layers() * c.width() * 28;
    beside = sums;
  } else {
    const GridMethod& method = grid.method[*cell.method];
    const bool quantize = method.treatment == Treatment::quantize;
    const bool walks = cell.set.has_value();
    if (walks) cost.products += c.forward(tokens, length);
    if (quantize && method.spec.method == Method::gptq) {
      cost.products += c.hessians(tokens);
      cost.sweep += c.sweeps();
      beside = 3 * 4 * c.widest() * c.widest();
    }
    if (quantize && method.spec.method == Method::awq) {
      cost.products += c.awq(tokens, length);
      copies += 4;
      beside = 4 * c.widest() * c.widest() + 4 * c.block();
    }
    if (method.treatment != Treatment::full_precision) {
      changed = c.model_bytes(c.element());
      cost.result += 60 * c.linears();
    }
    add_evaluation(grid, cell, c, metric_bytes, cost);
  }
  const double calibration = c.streams(tokens, copies) + c.inside(std::min(tokens, chunk_tokens)) + block + beside;
  const double others = c.head_bytes() + c.inside(chunk_tokens);
  const double weights = cell.study ? 0 : c.model_bytes(c.element());
  cost.changed = changed;
  cost.host = changed + std::max(calibration + c.head_bytes(), weights + others);
  cost.device = std::max(calibration + c.head_bytes(), weights + others);
  cost.device_least = std::max(calibration + c.head_bytes(), std::min(weights, 2 * c.block() * c.element()) + others);
  cost.partial = changed + 2 * c.streams(tokens, 1);
  return cost;
}

}  // namespace ptq

#include "eval/model_session.h"

#include "quant/changed_tensors.h"

namespace ptq {

namespace {

void require_shape(const GridModel& model, const ModelShape& found) {
  if (!model.shape) return;
  const auto same = [&](const char* what, std::int64_t expected, std::int64_t is) {
    require(expected == is, Exit::data, "{}{}: the grid says {} = {}, the model has {}; is it another model?",
            model.where, model.name, what, expected, is);
  };
  same("layers", model.shape->layers, found.layers);
  same("width", model.shape->width, found.width);
  same("ffn", model.shape->ffn, found.ffn);
  same("vocab", model.shape->vocab, found.vocab);
}

}  // namespace

ModelSession::ModelSession(const GridModel& model, const std::filesystem::path& directory,
                           std::shared_ptr<const Tokenizer> tokenizer, Ops& ops, DType compute)
    : ops_(ops),
      compute_(compute),
      original_(std::make_shared<const ModelFiles>(ModelFiles::open(directory))),
      files_(original_),
      tokenizer_(std::move(tokenizer)) {
  require(!files_->packed() && !files_->activations(), Exit::data,
          "{}: it is quantized already; a grid starts from the model that it was made from", directory.string());
  require_shape(model, shape_of(files_->config()));
  if (model.inject) inject(*model.inject);
}

void ModelSession::inject(const InjectSpec& spec) {
  injection_ = plan_injection(files_->config(), spec);
  const auto overlay = std::make_shared<TensorOverlay>(files_);
  // In f32, so that a twin is the same function up to fp32 rounding whatever the files are stored in.
  ChangedTensors changed(*files_, ops_, make_float_store(DType::f32), DType::f32,
                         [&](const std::string& name, const Tensor& value) { overlay->put(name, value); });
  for (int layer = 0; layer < files_->config().layers; ++layer) {
    BlockWeights block = load_block_weights(*files_, layer);
    ptq::inject(block, files_->config(), *injection_, layer);
    for (LinearRole role : all_linear_roles) {
      if (!files_->has_linear(role)) continue;
      QuantizedMatrix matrix;
      matrix.q = block[role];
      changed.linear(layer, role, matrix);
    }
    changed.folded(layer, block);
  }
  files_ = std::make_shared<const ModelFiles>(files_->with(overlay, {}));
}

const MetricInput& ModelSession::input(const GridMetric& metric, const MetricSource& source) {
  const auto found = inputs_.find(metric.name);
  if (found != inputs_.end()) return found->second;
  return inputs_.emplace(metric.name, prepare(metric, source, *tokenizer_, files_->config().max_position))
      .first->second;
}

Transformer& ModelSession::network(std::shared_ptr<const ModelFiles> files, IntegerProducts products) {
  if (!network_) network_ = std::make_unique<Transformer>(files_, ops_, compute_);
  ActivationQuant activations = files->activations();
  network_->use_blocks_of(std::move(files));
  network_->set_activations(std::move(activations), products);
  return *network_;
}

}  // namespace ptq

// One model of a grid while its cells are computed: what they share is loaded once.
#pragma once

#include "eval/measurement.h"
#include "model/overlay.h"
#include "model/transformer.h"

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

namespace ptq {

class ModelSession {
 public:
  // `directory`: of the model's files; a twin's outliers are injected in memory. Exit 65 if the files are not what the
  // grid's shape says, or packed; errors of ModelFiles::open and plan_injection.
  ModelSession(const GridModel& model, const std::filesystem::path& directory,
               std::shared_ptr<const Tokenizer> tokenizer, Ops& ops, DType compute);

  const std::shared_ptr<const ModelFiles>& files() const { return files_; }
  const std::shared_ptr<const ModelFiles>& before_injection() const { return original_; }  // files() if nothing is
  const std::optional<InjectPlan>& injection() const { return injection_; }
  DType compute() const { return compute_; }

  // The metric's texts as this model's tokens; `source` must stay the same.
  const MetricInput& input(const GridMetric& metric, const MetricSource& source);

  // The network with the blocks of `files` and these activations; what was loaded before is given back. Its head and
  // embedding stay for all cells.
  Transformer& network(std::shared_ptr<const ModelFiles> files, IntegerProducts products);

 private:
  void inject(const InjectSpec& spec);

  Ops& ops_;
  DType compute_;
  std::shared_ptr<const ModelFiles> original_, files_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::optional<InjectPlan> injection_;
  std::map<std::string, MetricInput> inputs_;
  std::unique_ptr<Transformer> network_;
};

}  // namespace ptq

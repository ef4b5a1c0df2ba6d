// Computes cells of a grid. Cells of one model that follow each other share its files, head and tokenised metrics, those
// of one draw its windows and full-precision ranges.
#pragma once

#include "eval/grid_inputs.h"
#include "eval/model_session.h"
#include "eval/partial_cell.h"
#include "eval/store.h"
#include "quant/activation_ranges.h"
#include "quant/quantize.h"

#include <memory>
#include <optional>
#include <string>

namespace ptq {

struct RunnerOptions {
  std::int64_t batch_tokens = 4096;  // of a forward pass of evaluation; no influence on results
  double layer_seconds = 30.0;       // layers of a cell in progress are kept at most so often
  std::string version;               // of the program
  ProgressFn progress = {};          // within a cell
};

class CellRunner {
 public:
  // All references must outlive the runner.
  CellRunner(const Grid& grid, GridInputs& inputs, const Store& store, Ops& ops, RunnerOptions options);

  // The result of a cell with this identity (cell_identity of inputs.inputs(cell)). A study's arrays are in the store
  // afterwards, the result is not. Exit 76 with the reason if the numerics do not allow it; errors of everything that
  // a cell is made of.
  CellResult compute(const GridCell& cell, const CellInputs& inputs);

 private:
  struct Quantized {
    std::shared_ptr<const ModelFiles> files;
    QuantizeReport report;
  };

  ModelSession& session(std::size_t model, DType compute);
  ModelRanges& ranges_of(const GridCell& cell);
  Quantized quantize(const GridCell& cell, ModelSession& model, PartialCell& partial);
  QuantizeReport remove(const GridCell& cell, ModelSession& model, const QuantSink& sink);
  nlohmann::json evaluate(const GridCell& cell, ModelSession& model, const Quantized& quantized, PartialCell& partial,
                          nlohmann::json& seconds);
  nlohmann::json study(const GridCell& cell, ModelSession& model, const std::string& id, nlohmann::json& seconds);

  const Grid& grid_;
  GridInputs& inputs_;
  const Store& store_;
  Ops& ops_;
  RunnerOptions options_;
  std::optional<std::pair<std::size_t, DType>> session_of_;
  std::unique_ptr<ModelSession> session_;
  // Of session_ and this set.
  std::optional<std::size_t> ranges_set_;
  ModelRanges ranges_;
};

}  // namespace ptq

// What the cells of a grid are made from: finds it, says what is missing, and digests it into identities. The tokenizer
// of one model and the windows of one draw are kept, because cells that follow each other share them.
#pragma once

#include "eval/cell.h"
#include "eval/input_digests.h"
#include "eval/measurement.h"

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace ptq {

// What decides about results beside the grid.
struct GridSettings {
  std::string backend;       // "cpu", "cuda", "simt"
  DType dtype = DType::f32;  // where neither the grid nor the model says
};

DType compute_type(const Grid& grid, const GridModel& model, const GridSettings& settings);

// The inputs of a cell as they were when it was last computed or looked for; empty if one of them was never digested.
std::optional<CellInputs> last_inputs(const Grid& grid, const GridCell& cell, const GridSettings& settings,
                                      const InputDigests& digests);

// Something that is not there: the message says how to get it.
struct MissingInput {
  std::string reason;
  std::size_t cells = 0;  // that need it
};

// The windows of one draw as one model's tokens.
struct DrawnWindows {
  std::size_t model = 0, set = 0;
  CalibrationSet calibration;  // manifest of the permuted windows
};

class GridInputs {
 public:
  // Directory of a model; exit 66 if it is not there.
  using ResolveModel = std::function<std::filesystem::path(const std::string& path)>;

  GridInputs(const Grid& grid, GridPaths paths, GridSettings settings, InputDigests digests, ResolveModel resolve);

  // Of the models, sets and metrics that `cells` need. Reads headers, no weights. Exit 65 if what is there is malformed.
  std::vector<MissingInput> missing(const std::vector<std::size_t>& cells);

  // Reads and digests what is not known or has changed. Exit 66, 65.
  CellInputs inputs(const GridCell& cell);

  std::filesystem::path model_directory(std::size_t model) const;
  std::filesystem::path model_directory(const std::string& path) const;  // as the grid file has it
  std::shared_ptr<const Tokenizer> tokenizer(std::size_t model);
  const MetricSource& source(std::size_t metric);
  const DrawnWindows& windows(std::size_t model, std::size_t set);  // valid until the next draw is asked for

 private:
  nlohmann::json model_digests(std::size_t model);
  std::string ids_sha256(std::size_t model, std::size_t set, const std::string& tokenizer_sha256);
  CalibrationRequest request_of(const GridSet& set) const;

  const Grid& grid_;
  GridPaths paths_;
  GridSettings settings_;
  InputDigests digests_;
  ResolveModel resolve_;
  std::map<std::string, nlohmann::json> models_;                        // digests, by path
  std::map<std::size_t, MetricSource> sources_;                         // by metric
  std::pair<std::string, std::shared_ptr<const Tokenizer>> tokenizer_;  // of a model's path
  std::unique_ptr<DrawnWindows> windows_;
};

}  // namespace ptq

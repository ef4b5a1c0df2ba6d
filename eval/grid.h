// A grid: models x methods x calibration sets, every cell of which is evaluated with the same metrics, and activation
// studies beside them. Read from a TOML file (eval/grid_file.h says how it is written); knows neither weights nor data.
#pragma once

#include "data/calibration.h"
#include "eval/activations.h"
#include "host/dtype.h"
#include "quant/inject.h"
#include "quant/scheme.h"

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace ptq {

// What a model is made of, as far as estimates need it.
struct ModelShape {
  std::int64_t layers = 0, width = 0, ffn = 0, heads = 0, kv_heads = 0, head_dim = 0, vocab = 0, positions = 0;
  bool gated = true, tied = false;
};

ModelShape shape_of(const ModelConfig& config);

struct GridModel {
  std::string name;  // as figures show it
  std::string path;  // a directory, or org/name of the Hugging Face cache
  std::optional<DType> dtype;
  std::optional<ModelShape> shape;  // if the grid says it
  // A twin: the model `of` with injected outliers.
  std::string of;
  std::optional<InjectSpec> inject;
  std::string where;  // "FILE:LINE: "
};

enum class Treatment : std::uint8_t {
  full_precision,
  quantize,
  remove_dead,      // input columns that calibration never exercised are deleted, nothing is quantized
  remove_injected,  // those that read injected channels (of a twin), before the injection
};

struct GridMethod {
  std::string name;
  Treatment treatment = Treatment::full_precision;
  QuantSpec spec;  // quantize
  IntegerProducts products = IntegerProducts::exact;
  std::string where;

  bool needs_set() const;
};

// One draw of a calibration set.
struct GridSet {
  std::string name;                    // of the set; its draws have it in common
  std::string group;                   // name of the list it was written in; empty
  CalibrationRequest request;          // without the data directory
  std::optional<std::uint64_t> order;  // windows permuted with this seed
  std::int64_t draw = 1;               // number among the draws of the set
  std::string title;                   // "c4 #2" where the set has several draws, else its name
  std::string where;
};

struct GridMetric {
  std::string name;
  bool perplexity = true;  // else multiple choice
  std::string source;      // "wikitext2" or a text file; a task's name or file
  std::int64_t seqlen = 2048, windows = -1;
  std::int64_t limit = -1, max_length = 0;
  bool bos = false;
};

// One cell: indices into the grid's lists. A study has no method and no metrics, an evaluation no study.
struct GridCell {
  std::size_t model = 0;
  std::optional<std::size_t> method, set, study;
  std::vector<std::size_t> metrics;
};

struct Grid {
  std::string name;
  std::filesystem::path file;
  std::optional<DType> dtype;
  std::string baseline;                // the set that figures normalise to; empty
  std::filesystem::path models, data;  // directories that the grid names; empty
  nlohmann::json report;               // [report], an object: of no influence on cells
  std::vector<GridMetric> metrics;
  std::vector<GridModel> model;
  std::vector<GridMethod> method;
  std::vector<GridSet> set;
  std::vector<ActivationSpec> study;
  std::vector<GridCell> cells;  // in the order in which they are computed

  std::size_t evaluations() const;
  std::size_t studies() const;
  std::size_t numbers() const;                    // metrics of all evaluations
  std::string title(const GridCell& cell) const;  // "OPT-6.7B, GPTQ W4, flores:zho_Hans"
};

// Cells of one shard of N: a contiguous part of about the N-th part of the cost, so that a model's cells stay together.
// The parts depend on the grid alone. `cost`: of each cell, any unit.
std::vector<std::size_t> shard_of(const std::vector<double>& cost, std::int64_t index, std::int64_t count);

}  // namespace ptq

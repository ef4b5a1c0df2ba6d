// A cell is one result of a grid, and its identity is everything that the result depends on: the model with the digest
// of its files, the method with all parameters, the calibration set with the digest of its ids, the metrics with those
// of their texts, the compute type, the kind of backend, and the version of the numerics. The id is the sha256 of the
// identity in canonical JSON, so that a finished cell is found again by whoever asks for the same result.
#pragma once

#include "eval/grid.h"

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace ptq {

// Raised by hand when results change on purpose: cells of an older version are then computed anew.
inline constexpr int numerics_version = 1;

// What only the files can tell.
struct CellInputs {
  std::string model_sha256;                // of the names and digests of config.json and the weights
  std::string tokenizer_sha256;            // of what it does, see data/manifest.h
  std::string ids_sha256;                  // of the calibration windows in their order; empty without a set
  std::vector<std::string> metric_sha256;  // of texts and tasks, in the order of the cell's metrics
  std::string backend;                     // "cpu", "cuda", "simt"
  DType dtype = DType::f32;
};

// Keys sorted, no white space, the shortest digits that give the same double.
std::string canonical_json(const nlohmann::json& json);

nlohmann::json cell_identity(const Grid& grid, const GridCell& cell, const CellInputs& inputs);

// Lower-case hex sha256 of the canonical identity.
std::string cell_id(const nlohmann::json& identity);

// What parts of a grid ask for, without names and digests.
nlohmann::json to_json(const GridSet& set);
nlohmann::json to_json(const GridMethod& method);
nlohmann::json to_json(const InjectSpec& spec);

}  // namespace ptq

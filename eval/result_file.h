// A result as a file: JSON with one top-level member a line, in this order:
//   id, identity, metrics or study, health, calibration,
//   outcome_sha256   of all bytes before its line: equal for every run of the cell
//   run              what differs from run to run: when, where, how long, names in the grid
//   sha256           of all bytes before its line
// docs/results-schema.json describes the members. A file is believed if its last line and its id match its content.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace ptq {

struct CellResult {
  nlohmann::json identity;
  nlohmann::json metrics;      // of an evaluation, by name; null for a study
  nlohmann::json study;        // of a study; null for an evaluation
  nlohmann::json health;       // null if nothing was quantized
  nlohmann::json calibration;  // manifest; null without a set
  nlohmann::json run;
};

std::string encode_result(const CellResult& result);

// The whole document. Exit 65, saying what does not match, unless it is the result of cell `id`. `origin` names the
// file in messages.
nlohmann::json decode_result(std::string_view text, const std::string& id, const std::string& origin);

}  // namespace ptq

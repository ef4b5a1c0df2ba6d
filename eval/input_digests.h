// Digests of models, texts and calibration sets, kept in a store: a rerun need not read weights or tokenize anything
// again, and `ptq status` can name the cells of a grid where neither models nor data are.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

namespace ptq {

class InputDigests {
 public:
  explicit InputDigests(std::filesystem::path directory) : directory_(std::move(directory)) {}

  // What was remembered last for `request`, an object that says what was digested.
  std::optional<nlohmann::json> last(const nlohmann::json& request) const;
  // The same, if it came from below `root` and no file it depended on has another size or time since.
  std::optional<nlohmann::json> current(const nlohmann::json& request, const std::filesystem::path& root) const;

  // Sizes and times of the files and directories whose change makes a value void. Best taken before they are read.
  static nlohmann::json stamps_of(const std::vector<std::filesystem::path>& sources);
  // `stamps`: if a source could not be found, only last() will give the value. Writes nothing that is there already.
  // Exit 73, 74.
  void remember(const nlohmann::json& request, const std::filesystem::path& root, const nlohmann::json& stamps,
                const nlohmann::json& value) const;

 private:
  std::filesystem::path file_of(const nlohmann::json& request) const;
  nlohmann::json entry(const nlohmann::json& request) const;  // null if there is none

  std::filesystem::path directory_;
};

}  // namespace ptq

// Results of cells on disk, one file each, found by id:
//   DIR/store.json             says that the directory is a store
//   DIR/ab/abcdef....json      a finished cell (eval/result_file.h), written once, complete or not at all
//   DIR/ab/abcdef....safetensors   arrays of an activation study; its result holds their digest and is written after
//   DIR/failed/ab/abcdef....json   why a cell could not be computed: it is not tried again unless asked for
//   DIR/inputs/                digests of models and sets, so that they are not computed again (eval/input_digests.h)
//   DIR/partial/ID/            layers of a large cell in progress (eval/layer_files.h), of one process at a time
//   DIR/aside/                 files that were not what their name said
// Any number of processes may work on one store; two that compute one cell write the same file twice.
#pragma once

#include "eval/result_file.h"

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

namespace ptq {

enum class StoreAccess : std::uint8_t { read, write };

class Store {
 public:
  // `note` is told of files that are set aside. For writing, the directory is made if it is not there. Exit 66 if there
  // is nothing to read, 65 if the directory is something else, 73 or 74 if it cannot be written.
  Store(const std::filesystem::path& directory, StoreAccess access, std::function<void(const std::string&)> note);

  const std::filesystem::path& directory() const { return directory_; }

  // The verified result; empty if there is none. A file that fails verification is moved to aside/ (left where it is
  // with read access) and counts as none. Exit 74 if it cannot be read.
  std::optional<nlohmann::json> find(const std::string& id) const;
  // Exit 73, 74; what was there before is then intact.
  void publish(const CellResult& result) const;

  struct Failure {
    int exit = 0;
    std::string reason;
  };
  std::optional<Failure> failure(const std::string& id) const;
  void record_failure(const nlohmann::json& identity, const Failure& failure) const;
  void forget_failure(const std::string& id) const;

  std::filesystem::path result_path(const std::string& id) const;
  std::filesystem::path arrays_path(const std::string& id) const;
  std::filesystem::path partial_path(const std::string& id) const;
  std::filesystem::path inputs_path() const { return directory_ / "inputs"; }
  // Makes the directory of a file in the store. Exit 73.
  static void make_parent(const std::filesystem::path& file);

  // Temporary files of processes that died.
  void remove_leftovers() const;

 private:
  std::filesystem::path failure_path(const std::string& id) const;
  void drop_partial(const std::string& id) const;
  void set_aside(const std::filesystem::path& file, const std::string& reason) const;

  std::filesystem::path directory_;
  StoreAccess access_;
  std::function<void(const std::string&)> note_;
};

}  // namespace ptq

// The directory of a cell in progress (eval/layer_files.h). Several processes may compute one cell; only the one that
// holds the directory's lock keeps anything there, the others compute the cell from the start.
#pragma once

#include "host/input_file.h"

#include <filesystem>

namespace ptq {

class PartialCell {
 public:
  explicit PartialCell(std::filesystem::path directory) : directory_(std::move(directory)) {}

  const std::filesystem::path& directory() const { return directory_; }

  // May this process use the directory? The answer stays yes until the object is gone or drop() was called, and no once
  // another process was seen there. A file system without locks says yes to all. Exit 73, 74.
  bool use();           // makes it if it is not there
  bool use_existing();  // no if it is not there

  // Removes the directory unless another process uses it.
  void drop();

 private:
  bool take();

  std::filesystem::path directory_;
  Descriptor lock_;
  bool busy_ = false;
};

// Directories whose removal was interrupted, among those of cells in progress.
void remove_dropped(const std::filesystem::path& parent);

}  // namespace ptq

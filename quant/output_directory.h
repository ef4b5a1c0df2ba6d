// A directory that appears complete or not at all: files are written into a hidden sibling and published by one
// rename. On any failure the sibling is removed and what was there before is untouched.
#pragma once

#include <cstdint>
#include <filesystem>

namespace ptq {

class OutputDirectory {
 public:
  // `target` must not exist, or be an empty directory, or (with `force`) a checkpoint that ptq wrote: force never
  // removes anything else. Exit 73 if it cannot be created, 74 if fewer than `bytes` are free there.
  OutputDirectory(const std::filesystem::path& target, bool force, std::uintmax_t bytes);
  ~OutputDirectory();
  OutputDirectory(const OutputDirectory&) = delete;
  OutputDirectory& operator=(const OutputDirectory&) = delete;

  const std::filesystem::path& path() const { return partial_; }  // write here

  // Exit 74 if the directory cannot be flushed or renamed.
  void publish();

 private:
  std::filesystem::path target_, partial_;
  bool published_ = false;
};

}  // namespace ptq

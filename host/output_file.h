// An output file that appears under its name only when it is complete: written under a temporary name in the same
// directory, synced, renamed, directory synced. Until publish() succeeds, what was there before is untouched.
#pragma once

#include "host/error.h"
#include "host/input_file.h"
#include "host/size.h"

#include <filesystem>
#include <string>
#include <string_view>

namespace ptq {

class OutputFile {
 public:
  // Exit 73 if it cannot be created, 74 on a full disk.
  explicit OutputFile(const std::filesystem::path& path);
  ~OutputFile();  // removes the temporary file unless published
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  const std::filesystem::path& path() const { return path_; }

  // Asks the file system for `bytes` bytes, so that a full disk shows before hours of work. Exit 74.
  void reserve(Size bytes);
  void write(std::string_view bytes, Size offset);  // exit 74
  void publish();                                   // exit 74

 private:
  std::filesystem::path path_, temporary_;
  Descriptor fd_;
};

// As this machine calls itself, empty where it does not tell: temporary files say whose they are.
std::string host_name();

// Of a file or directory that could not be created: 74 for a disk that is full or broken, else 73.
Exit creation_failure(int error);

// Makes what was created or renamed in a directory survive a crash of the machine. Exit 74.
void sync_directory(const std::filesystem::path& path);

// Is `file` named as the temporary files of an OutputFile are?
bool is_temporary(const std::filesystem::path& file);

// Removes `file` if it is a temporary file of an OutputFile that nobody can still be writing: of a process of this
// machine that is no longer there, or not touched for a day. Errors are ignored.
void remove_if_leftover(const std::filesystem::path& file);

}  // namespace ptq

// An input file opened for positioned reads. pread instead of a mapping: a file that shrinks or a disk that fails is
// an error message, not a SIGBUS.
#pragma once

#include "host/size.h"

#include <filesystem>
#include <string>
#include <string_view>

namespace ptq {

// Owns a POSIX file descriptor.
class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(other.release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept;
  ~Descriptor();

  int get() const { return fd_; }
  int release();

 private:
  int fd_;
};

class InputFile {
 public:
  // A regular file; `what` names it in messages. Exit 66 missing, 65 not a regular file, 74 unreadable.
  InputFile(const std::filesystem::path& path, std::string_view what);

  const std::filesystem::path& path() const { return path_; }
  Size size() const { return size_; }

  // Reads exactly `bytes` bytes at `offset`; safe from several threads. Exit 65 if the file ends before, 74 otherwise.
  void read(void* to, Size offset, Size bytes) const;
  std::string read(Size offset, Size bytes) const;

 private:
  std::filesystem::path path_;
  Descriptor fd_;
  Size size_;
};

// What a file that is not in the expected format looks like (git-lfs pointer, web page, all zeros, ...), with what to
// do about it, as ": it looks like ..."; empty when nothing is recognised.
std::string format_hint(const InputFile& file);

}  // namespace ptq

// The lines of a file one at a time, so that a corpus larger than memory can be read.
#pragma once

#include "host/input_file.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace ptq {

class LineReader {
 public:
  // Exit 66 missing, 65 not a regular file, 74 unreadable. `what` names the file's role in messages.
  LineReader(const std::filesystem::path& file, std::string_view what) : file_(file, what) {}

  // False at the end. The line has no newline and is valid until the next call.
  bool next(std::string_view& line);

  // Of the line that next() gave last: its first byte in the file, and its number from 1.
  std::uint64_t offset() const { return offset_; }
  std::int64_t number() const { return number_; }

 private:
  static constexpr std::uint64_t chunk = std::uint64_t{1} << 20;
  InputFile file_;
  std::string buffer_;
  std::size_t at_ = 0;  // start of the next line in buffer_
  Size read_;           // bytes of the file that were read; the last buffer_.size() of them are in buffer_
  std::uint64_t offset_ = 0;
  std::int64_t number_ = 0;
};

}  // namespace ptq

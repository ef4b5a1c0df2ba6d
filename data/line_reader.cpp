#include "data/line_reader.h"

#include <algorithm>

namespace ptq {

bool LineReader::next(std::string_view& line) {
  std::size_t end = buffer_.find('\n', at_);
  while (end == std::string::npos && read_ < file_.size()) {
    buffer_.erase(0, at_);
    at_ = 0;
    const std::size_t searched = buffer_.size();
    const Size bytes = std::min(file_.size() - read_, Size(chunk));
    buffer_ += file_.read(read_, bytes);
    read_ = read_ + bytes;
    end = buffer_.find('\n', searched);
  }
  if (end == std::string::npos) end = buffer_.size();
  if (at_ >= buffer_.size()) return false;
  line = std::string_view(buffer_).substr(at_, end - at_);
  offset_ = read_.value() - buffer_.size() + at_;
  ++number_;
  at_ = end + 1;
  return true;
}

}  // namespace ptq

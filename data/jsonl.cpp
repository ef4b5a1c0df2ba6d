#include "data/jsonl.h"

#include "data/python_text.h"
#include "host/error.h"
#include "host/files.h"
#include "host/input_file.h"

#include <nlohmann/json.hpp>

namespace ptq {

namespace {

// The lines of a file, without their newline.
class LineReader {
 public:
  LineReader(const std::filesystem::path& file, std::string_view what) : file_(file, what) {}

  // False at the end. The line is valid until the next call.
  bool next(std::string_view& line) {
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
    at_ = end + 1;
    return true;
  }

 private:
  static constexpr std::uint64_t chunk = std::uint64_t{1} << 20;
  InputFile file_;
  std::string buffer_;
  std::size_t at_ = 0;  // start of the next line in buffer_
  Size read_;           // bytes of the file that were read
};

}  // namespace

void for_each_record(const std::filesystem::path& file, std::string_view what, const RecordVisitor& visit) {
  LineReader lines(file, what);
  std::string_view line;
  for (std::int64_t number = 1; lines.next(line); ++number) {
    if (python_strip(line).empty()) continue;
    const std::string origin = fmt::format("{} line {}", file.string(), number);
    const nlohmann::json record = parse_json(line, origin);
    require(record.is_object(), Exit::data, "{}: expected a JSON object", origin);
    if (!visit(record, origin)) return;
  }
}

const std::string& string_member(const nlohmann::json& record, const char* key, const std::string& origin) {
  const auto member = record.find(key);
  require(member != record.end() && member->is_string(), Exit::data, "{}: \"{}\" must be a string", origin, key);
  return member->get_ref<const std::string&>();
}

}  // namespace ptq

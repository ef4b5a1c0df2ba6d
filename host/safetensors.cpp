// Nothing is allocated before the file's size allows it.
#include "host/safetensors.h"

#include "host/safetensors_header.h"
#include "host/stored_tensor.h"

namespace ptq {

namespace {

constexpr std::uint64_t max_header = 100'000'000;  // the format's own limit

class SafetensorsFile : public StoredTensorFile {
 public:
  SafetensorsFile(const std::filesystem::path& path, const std::string& name)
      : StoredTensorFile(path, "safetensors file", name) {
    const std::string where = path.string();
    require(file_.size() >= Size(8), Exit::data, "{}: {} bytes are too few for a safetensors file{}", where,
            file_.size().value(), format_hint(file_));
    std::uint64_t length = 0;
    file_.read(&length, 0, 8);
    require(length <= max_header && Size(8) + Size(length) <= file_.size(), Exit::data,
            "{}: header length {} does not fit a file of {} bytes{}", where, length, file_.size().value(),
            format_hint(file_));
    const Size data = Size(8) + Size(length);
    for (SafetensorsEntry& entry : read_safetensors_header(file_.read(8, length), file_.size() - data, where)) {
      add(entry.name, entry.dtype, std::move(entry.shape), data + entry.begin);
    }
  }
};

}  // namespace

std::unique_ptr<Checkpoint> open_safetensors(const std::filesystem::path& file, const std::string& name) {
  return std::make_unique<SafetensorsFile>(file, name);
}

std::unique_ptr<Checkpoint> open_safetensors(const std::filesystem::path& file) {
  return open_safetensors(file, file.filename().string());
}

}  // namespace ptq

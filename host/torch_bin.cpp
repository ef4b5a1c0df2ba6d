#include "host/torch_bin.h"

#include "host/pickle.h"
#include "host/printable.h"
#include "host/stored_tensor.h"
#include "host/zip.h"

#include <algorithm>

namespace ptq {

namespace {

constexpr std::uint64_t max_pickle = std::uint64_t{16} << 20;
constexpr std::string_view legacy_magic{"\x80\x02\x8a\x0al\xfc\x9c\x46\xf9 j\xa8P\x19", 14};

void check_magic(const InputFile& file) {
  const std::string head = file.read(0, std::min(file.size(), Size(512)));
  const std::string where = file.path().string();
  require(!head.starts_with(legacy_magic), Exit::data,
          "{}: the torch format before version 1.6 is not supported; load and save it with a newer torch", where);
  require(head.size() < 262 || head.substr(257, 5) != "ustar", Exit::data,
          "{}: a tar file, the torch format before version 0.2, is not supported", where);
  require(head.starts_with("PK\x03\x04"), Exit::data, "{}: it is not a torch zip file{}", where, format_hint(file));
}

bool is_contiguous(const PickledTensor& tensor) {
  Size expected = 1;
  for (std::size_t i = tensor.shape.size(); i-- > 0;) {
    if (tensor.shape[i] != 1 && Size(static_cast<std::uint64_t>(tensor.stride[i])) != expected) return false;
    expected = expected * Size(static_cast<std::uint64_t>(std::max<std::int64_t>(tensor.shape[i], 1)));
  }
  return true;
}

// One more than the last element that the view touches.
Size end_of_view(const PickledTensor& tensor) {
  Size end = tensor.offset + Size(1);
  for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
    if (tensor.shape[i] == 0) return tensor.offset;
    end = end +
          Size(static_cast<std::uint64_t>(tensor.shape[i] - 1)) * Size(static_cast<std::uint64_t>(tensor.stride[i]));
  }
  return end;
}

class TorchBin : public StoredTensorFile {
 public:
  TorchBin(const std::filesystem::path& path, const std::string& name) : StoredTensorFile(path, "torch file", name) {
    check_magic(file_);
    const auto entries = read_zip(file_);
    const std::string stem = find_stem(entries);
    check_byte_order(entries, stem);
    const ZipEntry pickle = entries.at(stem + "data.pkl");
    require(pickle.size <= Size(max_pickle), Exit::data, "{}: data.pkl has {} bytes, more than {}", path.string(),
            pickle.size.value(), max_pickle);
    const std::string text = file_.read(pickle.offset, pickle.size);
    for (const auto& [tensor, described] : read_state_dict(text, path.string() + ": data.pkl")) {
      add_view(tensor, described, entries, stem + "data/");
    }
  }

 private:
  using Entries = std::map<std::string, ZipEntry>;

  // All entries lie in one folder of any name: "archive/" or the file's own stem.
  std::string find_stem(const Entries& entries) const {
    std::string stem;
    for (const auto& [entry, place] : entries) {
      const auto slash = entry.find('/');
      if (slash == std::string::npos || std::string_view(entry).substr(slash + 1) != "data.pkl") continue;
      require(stem.empty(), Exit::data, "{}: more than one data.pkl", file_.path().string());
      stem = entry.substr(0, slash + 1);
    }
    require(!stem.empty(), Exit::data, "{}: there is no data.pkl in the zip file", file_.path().string());
    return stem;
  }

  void check_byte_order(const Entries& entries, const std::string& stem) const {
    const auto at = entries.find(stem + "byteorder");
    if (at == entries.end()) return;
    const bool little = at->second.size == Size(6) && file_.read(at->second.offset, 6) == "little";
    require(little, Exit::data, "{}: its byte order is not little", file_.path().string());
  }

  void add_view(const std::string& tensor, const PickledTensor& view, const Entries& entries,
                const std::string& folder) {
    const std::string where = file_.path().string() + ": tensor " + tensor;
    // A key with a path in it would name something outside the archive's data folder.
    const auto at =
        view.storage.find_first_of("/\\.") == std::string::npos ? entries.find(folder + view.storage) : entries.end();
    require(at != entries.end(), Exit::data, "{}: there is no storage {}", where, printable(view.storage));
    const Size item(size_of(view.dtype));
    require(view.storage_numel <= Size(at->second.size.value() / item.value()), Exit::data,
            "{}: storage {} claims {} elements, its entry has {} bytes", where, printable(view.storage),
            view.storage_numel.value(), at->second.size.value());
    try {
      require(end_of_view(view) <= view.storage_numel, Exit::data,
              "offset {}, shape {} and stride {} leave its storage of {}", view.offset.value(), to_string(view.shape),
              to_string(view.stride), view.storage_numel.value());
      require(is_contiguous(view), Exit::data,
              "shape {} with stride {} is not contiguous; save the model again with contiguous tensors",
              to_string(view.shape), to_string(view.stride));
    } catch (const Error& e) {
      fail(Exit::data, "{}: {}", where, e.what());
    }
    add(tensor, view.dtype, view.shape, at->second.offset + view.offset * item);
  }
};

}  // namespace

std::unique_ptr<Checkpoint> open_torch_bin(const std::filesystem::path& file, const std::string& name) {
  return std::make_unique<TorchBin>(file, name);
}

}  // namespace ptq

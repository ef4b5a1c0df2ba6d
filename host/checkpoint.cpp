// Which files of a directory hold the weights, and sharded checkpoints. Lookup order and index rules: spec models.md
// 4.2. An index is hostile: its values must be plain names of files that lie in the directory.
#include "host/checkpoint.h"

#include "host/files.h"
#include "host/printable.h"
#include "host/safetensors.h"
#include "host/torch_bin.h"

#include <array>
#include <nlohmann/json.hpp>
#include <set>

namespace ptq {

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using Opener = std::unique_ptr<Checkpoint> (*)(const fs::path&, const std::string&);

constexpr std::uint64_t max_index_bytes = std::uint64_t{1} << 20;
constexpr std::size_t max_shards = 512;  // their files stay open

bool is_plain_name(std::string_view name) {
  return !name.empty() && name.size() <= 255 && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

bool lies_in(const fs::path& file, const fs::path& directory) {
  const auto relative = file.lexically_relative(directory);
  return !relative.empty() && *relative.begin() != "..";
}

// A shard may be a symbolic link only within the checkpoint, or from a snapshot of the Hugging Face cache
// (models--org--name/snapshots/REVISION/file) to that model's own blobs.
void check_shard_path(const fs::path& directory, const std::string& name, const std::string& index) {
  const fs::path path = directory / name;
  std::error_code error;
  if (!fs::is_symlink(path, error)) return;
  const fs::path target = fs::canonical(path, error);
  require(!error, Exit::missing, "{}: shard {} is a dangling symbolic link", index, printable(name));
  const fs::path home = fs::canonical(directory, error);
  const fs::path snapshots = home.parent_path();
  const bool cached = snapshots.filename() == "snapshots" && lies_in(target, snapshots.parent_path() / "blobs");
  require(!error && (lies_in(target, home) || cached), Exit::data,
          "{}: shard {} is a symbolic link that leaves the directory; copy the file into it", index, printable(name));
}

class ShardedCheckpoint : public Checkpoint {
 public:
  ShardedCheckpoint(const fs::path& directory, const std::string& index_name, Opener open) {
    const fs::path index_path = directory / index_name;
    const std::string index = index_path.string();
    const Json json = read_json(index_path, "weight index", max_index_bytes);
    require(json.is_object() && json.contains("weight_map") && json.at("weight_map").is_object(), Exit::data,
            "{}: it has no weight_map object", index);
    const Json& map = json.at("weight_map");
    require(!map.empty(), Exit::data, "{}: weight_map is empty", index);

    std::set<std::string> names;
    for (const auto& [tensor, file] : map.items()) {
      require(file.is_string(), Exit::data, "{}: the file of tensor {} is not a string", index, printable(tensor));
      const auto& name = file.get_ref<const std::string&>();
      require(is_plain_name(name), Exit::data, "{}: \"{}\" is not a plain file name", index, printable(name));
      names.insert(name);
      require(names.size() <= max_shards, Exit::data, "{}: more than {} shards", index, max_shards);
    }
    for (const std::string& name : names) {
      check_shard_path(directory, name, index);
      add(open(directory / name, name));
    }
    for (const auto& [tensor, file] : map.items()) {
      const auto at = tensors_.find(tensor);
      require(at != tensors_.end() && at->second.file == file.get_ref<const std::string&>(), Exit::data,
              "{}: tensor {} is not in its shard {}", index, printable(tensor),
              printable(file.get_ref<const std::string&>()));
    }
  }

  const std::map<std::string, TensorInfo>& tensors() const override { return tensors_; }

  Tensor read(const std::string& name, DType as, std::int64_t begin, std::int64_t end) const override {
    const auto at = home_.find(name);
    require(at != home_.end(), Exit::data, "there is no tensor {}", printable(name));
    return at->second->read(name, as, begin, end);
  }

  std::vector<fs::path> files() const override {
    std::vector<fs::path> all;
    for (const auto& shard : shards_) {
      for (const fs::path& file : shard->files()) all.push_back(file);
    }
    return all;
  }

 private:
  void add(std::unique_ptr<Checkpoint> shard) {
    for (const auto& [name, info] : shard->tensors()) {
      const auto [at, fresh] = tensors_.emplace(name, info);
      require(fresh, Exit::data, "{}: tensor {} is also in {}", shard->files().front().string(), printable(name),
              printable(at->second.file));
      home_.emplace(at->first, shard.get());
    }
    shards_.push_back(std::move(shard));
  }

  std::vector<std::unique_ptr<Checkpoint>> shards_;
  std::map<std::string, TensorInfo> tensors_;
  std::map<std::string_view, const Checkpoint*> home_;  // keys live in tensors_
};

struct Layout {
  const char* file;
  bool sharded;
  Opener open;
};

constexpr std::array layouts{
    Layout{"model.safetensors", false, open_safetensors},
    Layout{"model.safetensors.index.json", true, open_safetensors},
    Layout{"pytorch_model.bin", false, open_torch_bin},
    Layout{"pytorch_model.bin.index.json", true, open_torch_bin},
};

}  // namespace

std::unique_ptr<Checkpoint> open_checkpoint(const fs::path& directory) {
  for (const Layout& layout : layouts) {
    std::error_code error;
    // symlink_status: a dangling link is an error to report, not a reason to look for another file.
    if (!fs::exists(fs::symlink_status(directory / layout.file, error))) continue;
    if (layout.sharded) return std::make_unique<ShardedCheckpoint>(directory, layout.file, layout.open);
    return layout.open(directory / layout.file, layout.file);
  }
  fail(Exit::missing, "{}: no weights: none of model.safetensors, pytorch_model.bin or their index is there",
       directory.string());
}

}  // namespace ptq

#include "quant/checkpoint_writer.h"

#include "model/weight_names.h"
#include "quant/checkpoint_files.h"

namespace ptq {

namespace {

constexpr std::string_view weight_suffix = ".weight";

// What the model uses; leftovers (training state, other towers) and integer buffers are not carried along.
std::vector<TensorInfo> output_tensors(const ModelFiles& files, const LinearStore& store, DType others) {
  const std::set<std::string> leftovers(files.unexpected().begin(), files.unexpected().end());
  const std::set<std::string> linears = linear_tensors(files);
  std::vector<TensorInfo> all;
  for (const auto& [name, info] : files.checkpoint().tensors()) {
    if (!is_float(info.dtype) || leftovers.contains(name)) continue;
    if (linears.contains(name)) {
      for (TensorInfo& t : store.tensors(module_of_weight(name), info.shape.at(0), info.shape.at(1))) {
        all.push_back(std::move(t));
      }
    } else {
      all.push_back({name, others, info.shape, {}});
    }
  }
  return all;
}

}  // namespace

CheckpointWriter::CheckpointWriter(const ModelFiles& files, Ops& ops, const std::filesystem::path& file,
                                   std::unique_ptr<LinearStore> store, DType others)
    : files_(files),
      tensors_(output_tensors(files, *store, others)),
      writer_(file, tensors_),
      changed_(files, ops, std::move(store), others, [this](const std::string& name, const Tensor& value) {
        writer_.write(name, value);
        written_.insert(name);
      }) {
  // The largest tensors change in no method: written now, before calibration needs the memory.
  const GlobalNames names = global_names(files.config());
  std::set<std::string> large;
  for (const std::string& module :
       {names.embedding, names.positions, names.project_in, names.project_out, names.head}) {
    large.insert(files.stored_name(module + std::string(weight_suffix)));
  }
  for (const TensorInfo& info : tensors_) {
    if (large.contains(info.name)) changed_.write(info.name, files.checkpoint().read(info.name, info.dtype));
  }
}

std::uintmax_t CheckpointWriter::bytes(const ModelFiles& files, const LinearStore& store, DType others) {
  std::uintmax_t sum = 0;
  for (const TensorInfo& t : output_tensors(files, store, others)) {
    sum += static_cast<std::uintmax_t>(numel(t.shape)) * size_of(t.dtype);
  }
  return sum;
}

void CheckpointWriter::finish() {
  const std::set<std::string> linears = linear_tensors(files_);
  for (const TensorInfo& info : tensors_) {
    if (written_.contains(info.name)) continue;
    const auto& stored = files_.checkpoint().tensors();
    check(stored.contains(info.name) && !linears.contains(info.name), "{} was never quantized", info.name);
    changed_.write(info.name, files_.checkpoint().read(info.name, info.dtype));
  }
  writer_.finish();
}

}  // namespace ptq

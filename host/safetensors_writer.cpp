// SafetensorsWriter: the layout is fixed by the declaration, so that data of any order go straight to their place.
// Tensors are laid out as the reference writer does: by descending alignment of the dtype, then by name.
#include "host/checkpoint.h"
#include "host/output_file.h"
#include "host/printable.h"
#include "host/safetensors.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace ptq {

namespace {

struct Slot {
  DType dtype = DType::other;
  Shape shape;
  Size begin;  // in the file
  bool written = false;
};

Size bytes_of(const TensorInfo& info) {
  return Size(static_cast<std::uint64_t>(numel(info.shape))) * Size(size_of(info.dtype));
}

}  // namespace

struct SafetensorsWriter::State {
  explicit State(const std::filesystem::path& path) : file(path) {}

  OutputFile file;
  std::map<std::string, Slot> slots;
};

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& file, const std::vector<TensorInfo>& tensors,
                                     const std::map<std::string, std::string>& metadata)
    : state_(std::make_unique<State>(file)) {
  std::vector<const TensorInfo*> order;
  for (const TensorInfo& info : tensors) order.push_back(&info);
  std::sort(order.begin(), order.end(), [](const TensorInfo* a, const TensorInfo* b) {
    return std::pair(size_of(b->dtype), std::string_view(a->name)) <
           std::pair(size_of(a->dtype), std::string_view(b->name));
  });

  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  Size at = 0;
  for (const TensorInfo* info : order) {
    check(info->dtype != DType::other, "tensor {} of an unknown dtype is written", info->name);
    const Size end = at + bytes_of(*info);
    header[info->name] = {
        {"dtype", safetensors_name(info->dtype)}, {"shape", info->shape}, {"data_offsets", {at.value(), end.value()}}};
    const bool fresh = state_->slots.emplace(info->name, Slot{info->dtype, info->shape, at}).second;
    check(fresh, "tensor {} is declared twice", info->name);
    at = end;
  }
  std::string text = header.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  text.append((8 - text.size() % 8) % 8, ' ');
  const std::uint64_t length = text.size();
  const Size data = Size(8) + Size(length);
  for (auto& [name, slot] : state_->slots) slot.begin = data + slot.begin;
  state_->file.reserve(data + at);
  state_->file.write({reinterpret_cast<const char*>(&length), 8}, 0);
  state_->file.write(text, 8);
}

SafetensorsWriter::~SafetensorsWriter() = default;

void SafetensorsWriter::write(const std::string& name, const Tensor& value) {
  const auto at = state_->slots.find(name);
  check(at != state_->slots.end(), "tensor {} was not declared", name);
  Slot& slot = at->second;
  check(value.place() == Place::host, "tensor {} lies on a device", name);
  check(value.dtype() == slot.dtype && value.shape() == slot.shape, "tensor {} is {} {}, declared as {} {}", name,
        name_of(value.dtype()), to_string(value.shape()), name_of(slot.dtype), to_string(slot.shape));
  state_->file.write({static_cast<const char*>(value.raw()), value.bytes()}, slot.begin);
  slot.written = true;
}

void SafetensorsWriter::finish() {
  for (const auto& [name, slot] : state_->slots) {
    check(slot.written, "{}: tensor {} was declared but not written", state_->file.path().string(), name);
  }
  state_->file.publish();
}

void write_safetensors(const std::filesystem::path& file, const std::map<std::string, Tensor>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<TensorInfo> infos;
  for (const auto& [name, tensor] : tensors) infos.push_back({name, tensor.dtype(), tensor.shape(), ""});
  SafetensorsWriter writer(file, infos, metadata);
  for (const auto& [name, tensor] : tensors) writer.write(name, tensor);
  writer.finish();
}

}  // namespace ptq
